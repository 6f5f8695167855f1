// What the heads do at one prompt for its next token: in sentences, on a map, and head by head against their cards.

import type { AtlasData } from "./data";
import { diverging } from "./inks";
import type { PromptHead } from "./message";
import { shown } from "./names";

/** Heads in the table. */
const MOST_ROWS = 20;
const MOST_WORDS = 4;
const CELL = 10;
const MARKS = new Map([
  [true, "✓"],
  [false, "✗"],
  [null, "·"],
]);

const signed = (value: number) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

interface AtPromptProps {
  atlas: AtlasData;
  /** The head whose card is open. */
  place: number | undefined;
  dark: boolean;
  select: (head: string) => void;
  /** Mark a head in the map, or none. */
  onHint: (place: number | undefined) => void;
}

/** The panel below the map. */
export function AtPrompt({ atlas, place, dark, select, onHint }: AtPromptProps) {
  const { text, token, rule, controls, sentences, heads } = atlas.facts.prompt!;
  const chosen = heads.find((each) => each.place === place) ?? heads[0];
  return (
    <div class="ha-prompt">
      <p>
        <strong>
          <bdi>{shown(text)}</bdi>
        </strong>{" "}
        →{" "}
        <strong class="ha-next">
          <bdi>{shown(token)}</bdi>
        </strong>
      </p>
      <ul>
        {sentences.map((sentence) => (
          <li key={sentence}>{shown(sentence)}</li>
        ))}
      </ul>
      {chosen && (
        <>
          <h2>What each head adds to {shown(token.trim())}</h2>
          <Contributions {...{ atlas, heads, place, dark, select, onHint }} />
          <h2>Where {atlas.name(chosen.place)} looks</h2>
          <Tokens atlas={atlas} head={chosen} />
        </>
      )}
      <h2>The heads that stand out most</h2>
      <div class="ha-scroll">
        <table>
          <thead>
            <tr>
              <th>head</th>
              <th class="right">adds</th>
              {controls > 0 && <th class="right">controls</th>}
              <th>looks at</th>
              <th class="right">rank</th>
              <th>writes</th>
              <th>its card</th>
            </tr>
          </thead>
          <tbody>
            {heads.slice(0, MOST_ROWS).map((each) => (
              <tr key={each.place} onMouseEnter={() => onHint(each.place)} onMouseLeave={() => onHint(undefined)}>
                <td>
                  <button type="button" class="ha-link" onClick={() => select(atlas.name(each.place))}>
                    {atlas.name(each.place)}
                  </button>
                </td>
                <td class="right">{signed(each.adds)}</td>
                {controls > 0 && <td class="right">{range(each)}</td>}
                <td>{attended(atlas, each)}</td>
                <td class="right">{each.rank.toLocaleString("en")}</td>
                <td>{wordsOf(each)}</td>
                <td>{checksOf(each)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="ha-quiet">
        adds: directly to the logit
        {controls > 0 && `; controls: lowest and highest on ${controls} prompts of random tokens`}; rank: of the token
        in what the head writes; −: words that it lowers; its card (rule {rule}): ✓ so here, ✗ not so, · not to be seen
        at this prompt.
      </p>
    </div>
  );
}

/** The section of a head's card. */
export function PromptOfHead({ atlas, place }: { atlas: AtlasData; place: number }) {
  const { text, token, controls, heads } = atlas.facts.prompt!;
  const head = heads.find((each) => each.place === place);
  if (!head) return null;
  return (
    <>
      <h3>At the prompt</h3>
      <p class="ha-quiet">
        <bdi>{shown(text)}</bdi> → <bdi>{shown(token)}</bdi>
      </p>
      <Tokens atlas={atlas} head={head} />
      <p>
        It adds {signed(head.adds)} to the token’s logit
        {controls > 0 && ` (controls ${range(head)})`}, which is number {head.rank.toLocaleString("en")} of what it
        writes here: <bdi>{wordsOf(head)}</bdi>. Its card: {checksOf(head)}.
      </p>
    </>
  );
}

function range({ low, high }: PromptHead): string {
  return low === null || high === null ? "" : `${signed(low)} to ${signed(high)}`;
}

function wordsOf({ lowers, words }: PromptHead): string {
  return `${lowers ? "− " : ""}${words.slice(0, MOST_WORDS).map(shown).join(", ")}`;
}

function checksOf({ checks }: PromptHead): string {
  return checks.length
    ? checks
        .slice(0, 2)
        .map(({ title, agrees }) => `${MARKS.get(agrees)} ${shown(title)}`)
        .join(", ") + (checks.length > 2 ? ` and ${checks.length - 2} more` : "")
    : "names nothing";
}

function attended(atlas: AtlasData, { attention }: PromptHead): string {
  const at = attention.indexOf(Math.max(...attention));
  return `${shown(atlas.facts.prompt!.tokens[at])} ${attention[at].toFixed(2)}`;
}

/** The prompt, each token as dark as the share of the head's attention on it. */
function Tokens({ atlas, head }: { atlas: AtlasData; head: PromptHead }) {
  return (
    <p class="ha-tokens">
      {atlas.facts.prompt!.tokens.map((token, at) => (
        <span
          key={at}
          style={{
            background: `color-mix(in srgb, var(--accent) ${Math.round(50 * head.attention[at])}%, transparent)`,
          }}
        >
          <bdi>{shown(token)}</bdi>
          <small>{head.attention[at].toFixed(2)}</small>
        </span>
      ))}
    </p>
  );
}

/** A cell for each head, layers from left to right as in the map above. */
function Contributions({ atlas, heads, place, dark, select, onHint }: AtPromptProps & { heads: PromptHead[] }) {
  const { layers, heads: perLayer } = atlas.facts;
  const most = Math.max(...heads.map(({ adds }) => Math.abs(adds)), 1e-9);
  const theme = dark ? "dark" : "light";
  const [strongest] = heads;
  return (
    <>
      <svg
        class="ha-contributions"
        viewBox={`0 0 ${layers * CELL} ${perLayer * CELL}`}
        style={{ maxWidth: `${layers * 22}px` }}
        role="img"
        aria-label={`Contribution of each head, from −${most.toFixed(2)} (blue) to +${most.toFixed(2)} (red); ${atlas.name(strongest.place)} stands out most. The table below has the strongest.`}
      >
        {heads.map((each) => (
          <rect
            key={each.place}
            x={Math.floor(each.place / perLayer) * CELL + 0.5}
            y={(each.place % perLayer) * CELL + 0.5}
            width={CELL - 1}
            height={CELL - 1}
            fill={diverging(each.adds / most, theme)}
            class={each.place === place ? "kept" : ""}
            onClick={() => select(atlas.name(each.place))}
            onMouseEnter={() => onHint(each.place)}
            onMouseLeave={() => onHint(undefined)}
          >
            <title>{`${atlas.name(each.place)} ${signed(each.adds)}`}</title>
          </rect>
        ))}
      </svg>
      <p class="ha-quiet">
        Layers 0 to {layers - 1} from left to right, heads 0 to {perLayer - 1} from top to bottom; red raises the token,
        blue lowers it, up to {most.toFixed(2)}.
      </p>
    </>
  );
}
