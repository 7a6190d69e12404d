/** One thing that has to be true at the end, in the units that people compare. */
export type Check = Readonly<{ name: string; expected: string; actual: string; pass: boolean }>;

/** What a scenario tells: its numbers, amounts as decimal strings, and its checks. */
export type Outcome = Readonly<{ scenario: string; checks: readonly Check[] } & Record<string, unknown>>;

export function check(name: string, expected: unknown, actual: unknown): Check {
	return { name, expected: String(expected), actual: String(actual), pass: String(expected) === String(actual) };
}

/** One JSON object on one line. */
export function printJson(outcome: Outcome): void {
	process.stdout.write(`${JSON.stringify(outcome)}\n`);
}

/** Numbers, then checks, as two tables. */
export function printTable({ checks, ...values }: Outcome): void {
	const rows = Object.entries(values).map(([name, value]) => [
		name,
		typeof value === "object" ? JSON.stringify(value) : String(value),
	]);
	print([["", ""], ...rows]);
	print([
		["check", "expected", "actual", ""],
		...checks.map(({ name, expected, actual, pass }) => [name, expected, actual, pass ? "ok" : "FAILED"]),
	]);
}

function print(rows: readonly (readonly string[])[]): void {
	const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
	for (const row of rows) {
		process.stdout.write(
			`${row
				.map((cell, column) => cell.padEnd(widths[column] ?? 0))
				.join("  ")
				.trimEnd()}\n`,
		);
	}
}
