// The report of an atlas: its blocks as elements, its text as text.

import type { Block, Piece, TableBlock } from "./message";

export function Report({ blocks }: { blocks: Block[] }) {
  const tables = blocks.filter((block) => block.type === "table");
  return (
    <article class="ha-report">
      {blocks.map((block, at) =>
        block.type === "table" ? (
          <Table key={at} block={block} number={tables.indexOf(block) + 1} />
        ) : (
          <Words key={at} block={block} />
        ),
      )}
    </article>
  );
}

function Words({ block }: { block: Exclude<Block, TableBlock> }) {
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

function Table({ block, number }: { block: TableBlock; number: number }) {
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
                  {line(cell)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function line(pieces: Piece[]) {
  return pieces.map(({ style, text }, at) => {
    if (style === "code") return <code key={at}>{text}</code>;
    return style === "strong" ? <strong key={at}>{text}</strong> : text;
  });
}
