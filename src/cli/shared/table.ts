/** Tables for people, written row by row: a long one is never held in memory, so widths are fixed. */
import type { Output } from "./output.ts";

export type Column<T> = Readonly<{
	title: string;
	width: number;
	/** Numbers stand to the right. */
	right?: boolean;
	text(row: T): string;
}>;

export function tableHead<T>(columns: readonly Column<T>[]): string {
	return line(columns, ({ title }) => title);
}

export function tableRow<T>(columns: readonly Column<T>[], row: T): string {
	return line(columns, ({ text }) => text(row));
}

/** Writes a whole table; its head only when there is a row. Resolves to how many there were. */
export async function writeTable<T>(
	out: Output,
	columns: readonly Column<T>[],
	rows: Iterable<T> | AsyncIterable<T>,
): Promise<number> {
	let count = 0;
	for await (const row of rows) {
		if (count++ === 0) await out.line(tableHead(columns));
		await out.line(tableRow(columns, row));
		if (out.gone) break;
	}
	return count;
}

/** Names and values, one a line. */
export function pairs(rows: readonly (readonly [name: string, value: string])[]): string {
	const width = Math.max(...rows.map(([name]) => name.length));
	return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join("");
}

function line<T>(columns: readonly Column<T>[], cell: (column: Column<T>) => string): string {
	return columns
		.map((column) => (column.right ? cell(column).padStart(column.width) : cell(column).padEnd(column.width)))
		.join("  ")
		.trimEnd();
}
