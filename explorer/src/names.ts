// Names of relations as people say them; identifiers stay in data, files and addresses.

const WORDS: Record<string, string> = {
  adj: "adjective",
  us: "US",
  english: "English",
  french: "French",
  german: "German",
  italian: "Italian",
  portuguese: "Portuguese",
  spanish: "Spanish",
  british: "British",
  american: "American",
};
const SPOKEN = /^[a-z0-9]+(?:_[a-z0-9]+)*$/i;
const words = (part: string) =>
  part
    .split("_")
    .map((word) => WORDS[word] ?? word)
    .join(" ");

/** "country_to_capital" as "country → capital"; a name of another form is left as it is. */
export function spoken(name: string): string {
  if (!SPOKEN.test(name)) return name;
  const at = name.indexOf("_to_");
  return at > 0 ? `${words(name.slice(0, at))} → ${words(name.slice(at + 4))}` : words(name);
}

/** A text in which the names of these relations are as people say them. */
export function speaking(names: string[]): (text: string) => string {
  const known = new Set(names.filter((name) => name.includes("_") && spoken(name) !== name));
  return (text) =>
    known.size
      ? text.replace(/[a-z0-9]+(?:_[a-z0-9]+)+/gi, (found) => (known.has(found) ? spoken(found) : found))
      : text;
}

const LANGUAGES = new Set(["English", "French", "German", "Italian", "Portuguese", "Spanish", "British", "American"]);
const plural = (noun: string) =>
  LANGUAGES.has(noun)
    ? `${noun} words`
    : noun === "person"
      ? "people"
      : /[^aeiou]y$/.test(noun)
        ? `${noun.slice(0, -1)}ies`
        : /(?:s|x|ch|sh)$/.test(noun)
          ? `${noun}es`
          : `${noun}s`;

/** What a head's relations are about, as "countries": the noun of the first of them that most share; "" if they share none. */
export function topic(names: string[]): string {
  const nouns = (name: string) =>
    (name.includes("_to_") ? spoken(name).split(" → ") : []).filter((noun) => /^[a-z]*[^d]$/i.test(noun));
  const counts = nouns(names[0] ?? "").map((noun) => ({
    noun,
    count: names.filter((name) => nouns(name).includes(noun)).length,
  }));
  const [best] = counts.sort((one, other) => other.count - one.count);
  return best && best.count > 1 && 2 * best.count >= names.length ? plural(best.noun) : "";
}

/** Tokens as they can be read: a leading space is shown, what cannot be printed is escaped. */
export function shown(token: string): string {
  return token
    .replace(/^ /, "␣")
    .replace(
      /[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069\u200e\u200f]/gu,
      (letter) => `\\u{${letter.codePointAt(0)!.toString(16)}}`,
    );
}
