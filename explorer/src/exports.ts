// Files of the current view: the map as SVG and PNG, the table as CSV.

import type { Drawing } from "./drawing";

/** Text that a spreadsheet must not take for a formula. */
export function csvCell(value: string): string {
  const guarded = /^[=+\-@\t\r]/.test(value) && !/^-?\d+(\.\d+)?$/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(guarded) ? `"${guarded.replaceAll('"', '""')}"` : guarded;
}

/** With a byte order mark, without which spreadsheets take another encoding than UTF-8. */
export function csv(rows: string[][]): string {
  return `\ufeff${rows.map((row) => row.map(csvCell).join(",")).join("\r\n")}\r\n`;
}

export function save(name: string, content: Blob | string, type = "text/plain"): void {
  const blob = typeof content === "string" ? new Blob([content], { type: `${type};charset=utf-8` }) : content;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name.replace(/[^\w.\- ]+/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const escaped = (text: string) =>
  text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ud800-\udfff]/g, "\ufffd")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");

export function svg(drawing: Drawing): string {
  const parts = drawing.shapes.map((shape) =>
    "text" in shape
      ? `<text x="${shape.x}" y="${shape.y}" font-size="${shape.size}" text-anchor="${shape.anchor}" fill="${shape.colour}"${shape.turned ? ` transform="rotate(-90 ${shape.x} ${shape.y})"` : ""}>${escaped(shape.text)}</text>`
      : `<rect x="${shape.x}" y="${shape.y}" width="${shape.width}" height="${shape.height}" fill="${shape.colour}"/>`,
  );
  const { width, height, background } = drawing;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    `font-family="system-ui, sans-serif" shape-rendering="crispEdges"><title>${escaped(drawing.title)}</title>` +
    `<rect width="${width}" height="${height}" fill="${background}"/>${parts.join("")}</svg>\n`
  );
}

export async function png(drawing: Drawing, scale = 2): Promise<Blob> {
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(drawing.width * scale);
  canvas.height = Math.round(drawing.height * scale);
  const context = canvas.getContext("2d")!;
  context.scale(scale, scale);
  context.fillStyle = drawing.background;
  context.fillRect(0, 0, drawing.width, drawing.height);
  paint(context, drawing);
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture is too large."))), "image/png"),
  );
}

export function paint(context: CanvasRenderingContext2D, drawing: Drawing): void {
  let colour = "";
  for (const shape of drawing.shapes) {
    // Neighbours mostly share their colour, and setting one costs more than filling a cell.
    if (shape.colour !== colour) context.fillStyle = colour = shape.colour;
    if ("text" in shape) {
      context.font = `${shape.size}px system-ui, sans-serif`;
      context.textAlign = shape.anchor === "middle" ? "center" : shape.anchor === "end" ? "right" : "left";
      if (shape.turned) {
        context.save();
        context.translate(shape.x, shape.y);
        context.rotate(-Math.PI / 2);
        context.fillText(shape.text, 0, 0);
        context.restore();
      } else context.fillText(shape.text, shape.x, shape.y);
    } else context.fillRect(shape.x, shape.y, shape.width, shape.height);
  }
}
