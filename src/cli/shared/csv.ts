import type { Output } from "./output.ts";

/** Writes rows as CSV (RFC 4180), one at a time, until nobody reads any more. */
export async function writeCsv<T extends object>(
	out: Output,
	names: readonly (keyof T & string)[],
	rows: Iterable<T> | AsyncIterable<T>,
): Promise<void> {
	await out.write(`${names.join(",")}\r\n`);
	for await (const row of rows) {
		if (out.gone) return;
		await out.write(`${names.map((name) => csvCell(row[name])).join(",")}\r\n`);
	}
}

function csvCell(value: unknown): string {
	const text = typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "");
	return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
