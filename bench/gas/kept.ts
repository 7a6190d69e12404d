import { readFileSync, writeFileSync } from "node:fs";
import { GOALS } from "./goals.ts";
import { type GasReport, OPERATIONS } from "./measure.ts";
import { gasPage } from "./table.ts";

const FIGURES = new URL("./gas.json", import.meta.url);
const PAGE = new URL("../../contracts/GAS.md", import.meta.url);

/** Keeps a report: its figures beside this file, its page beside the contracts. */
export function keep(report: GasReport): void {
	writeFileSync(FIGURES, `${JSON.stringify(report, null, 2)}\n`);
	writeFileSync(PAGE, gasPage(report));
}

/**
 * What is wrong with a report: a figure above its goal, another one than the kept one (also a better one: what is kept
 * is what people read), or a page that is not that of the figures.
 */
export function complaintsAbout(report: GasReport): readonly string[] {
	const kept: GasReport = JSON.parse(readFileSync(FIGURES, "utf8"));
	const complaints: string[] = [];
	for (const operation of OPERATIONS) {
		const gas = report.erc3009[operation];
		const { goal } = GOALS[operation];
		if (gas > goal) complaints.push(`${operation} costs ${gas}, above its goal of ${goal}`);
	}
	for (const part of ["erc3009", "usdcLike", "limitedApproval"] as const) {
		for (const operation of OPERATIONS) {
			const [gas, before] = [report[part][operation], kept[part][operation]];
			if (gas === before) continue;
			complaints.push(`${part}.${operation} is ${gas}, not ${before} as kept: npm run gas -- --write, if meant`);
		}
	}
	if (readFileSync(PAGE, "utf8") !== gasPage(kept)) complaints.push("contracts/GAS.md is not the kept figures' page");
	return complaints;
}
