// The report of an atlas: its blocks as elements, its text as text.

import type { Block, Piece, TableBlock } from "./message";

type Speak = (text: string) => string;
/** Letters of a cell that are shown at once. */
const MOST_OF_A_CELL = 240;

/** `speak` replaces the identifiers of relations. */
export function Report({ blocks, speak }: { blocks: Block[]; speak: Speak }) {
  const tables = blocks.filter((block) => block.type === "table");
  return (
    <article class="ha-report">
      {blocks.map((block, at) =>
        block.type === "table" ? (
          <Table key={at} block={block} speak={speak} number={tables.indexOf(block) + 1} />
        ) : (
          <Words key={at} block={block} speak={speak} />
        ),
      )}
    </article>
  );
}

function Words({ block, speak }: { block: Exclude<Block, TableBlock>; speak: Speak }) {
  const line = (pieces: Piece[]) => spokenLine(pieces, speak);
  switch (block.type) {
    case "title":
      return <h2>{line(block.text)}</h2>;
    case "heading":
      return <h3>{line(block.text)}</h3>;
    case "paragraph":
      return <p>{line(block.text)}</p>;
    case "list":
      return (
        <ul>
          {block.items.map((item, at) => (
            <li key={at}>{line(item)}</li>
          ))}
        </ul>
      );
    case "code":
      return <pre tabIndex={0}>{block.text}</pre>;
  }
}

function Table({ block, number, speak }: { block: TableBlock; number: number; speak: Speak }) {
  const line = (pieces: Piece[]) => spokenLine(pieces, speak);
  const side = (column: number) => (block.right.includes(column) ? "right" : undefined);
  return (
    <div class="ha-scroll" tabIndex={0} role="region" aria-label={`Table ${number} of the report`}>
      <table>
        <thead>
          <tr>
            {block.header.map((cell, column) => (
              <th key={column} scope="col" class={side(column)}>
                {line(cell)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {block.rows.map((row, at) => (
            <tr key={at}>
              {row.map((cell, column) => (
                <td key={column} class={side(column)}>
                  <Cell pieces={cell} speak={speak} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** A cell; of a very long one its beginning, and the rest on demand. */
function Cell({ pieces, speak }: { pieces: Piece[]; speak: Speak }) {
  const text = pieces.map((piece) => piece.text).join("");
  if (text.length <= MOST_OF_A_CELL) return <>{spokenLine(pieces, speak)}</>;
  return (
    <details>
      <summary>{text.slice(0, MOST_OF_A_CELL / 3)}…</summary>
      <div class="ha-long">{text}</div>
    </details>
  );
}

function spokenLine(pieces: Piece[], speak: Speak) {
  return pieces.map(({ style, text }, at) => {
    const said = speak(text);
    if (style === "code") return said === text || text.includes(" ") ? <code key={at}>{text}</code> : said;
    return style === "strong" ? <strong key={at}>{said}</strong> : said;
  });
}
