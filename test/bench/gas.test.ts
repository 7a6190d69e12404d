import { expect, test } from "vitest";
import { complaintsAbout } from "../../bench/gas/kept.ts";
import { measure, OPERATIONS } from "../../bench/gas/measure.ts";

test("every operation of the escrow costs what is kept in the repository, and no more than its goal", async () => {
	const report = await measure();
	expect(complaintsAbout(report)).toEqual([]);

	const dearer = { ...report.erc3009, settle: report.erc3009.settle + 1 };
	expect(complaintsAbout({ ...report, erc3009: dearer })).toHaveLength(1);
	const tooDear = Object.fromEntries(OPERATIONS.map((operation) => [operation, 10_000_000])) as typeof dearer;
	expect(complaintsAbout({ ...report, erc3009: tooDear })).toHaveLength(2 * OPERATIONS.length);
}, 120_000);
