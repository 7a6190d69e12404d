/** Tables for people, in Markdown so that a page can take them as they are. */
import type { Figures } from "./figures.ts";

/**
 * @param head titles of the columns; all but the first hold figures, and stand to the right
 * @example
 * table(["operation", "gas"], [["open", "93,112"]]);
 */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
	const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? "").length)));
	const line = (cells: readonly string[]) =>
		`| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(" | ")} |`;
	const rule = line(widths.map((width, i) => (i === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)));
	return [line(head), rule, ...rows.map(line)].join("\n");
}

/** A side as it is called in a table. One that was not measured stands there with a dash in each column. */
export type Row = Readonly<{ label: string; figures: Figures | undefined }>;

/**
 * The sides of a bench: medians, and the least and the most of the rounds.
 *
 * @param unit what is done so often a second, for example `vouchers`
 */
export function figuresTable(unit: string, rows: readonly Row[]): string {
	return table(
		["", `${unit} a second`, "least..most", "CPU µs each", "p50 ms", "p99 ms", "resident MB"],
		rows.map(({ label, figures }) => [label, ...(figures === undefined ? Array(6).fill("-") : cells(figures))]),
	);
}

function cells({ perSecond, leastPerSecond, mostPerSecond, cpuMicros, p50Ms, p99Ms, rssBytes }: Figures): string[] {
	return [
		whole(perSecond),
		`${whole(leastPerSecond)}..${whole(mostPerSecond)}`,
		cpuMicros.toFixed(1),
		p50Ms?.toFixed(2) ?? "-",
		p99Ms?.toFixed(2) ?? "-",
		megabytes(rssBytes),
	];
}

/** How many times as much, for example `41.3x`; a dash where it was not measured. */
export function times(ratio: number | null | undefined): string {
	return typeof ratio === "number" ? `${ratio.toFixed(2)}x` : "-";
}

export function megabytes(bytes: number): string {
	return (bytes / 1e6).toFixed(1);
}

export function whole(figure: number): string {
	return figure.toLocaleString("en-US", { maximumFractionDigits: 0 });
}
