import { Command } from "commander";
import { complaintsAbout, keep } from "./kept.ts";
import { measure } from "./measure.ts";
import { gasPage } from "./table.ts";

const { json, write } = new Command("gas")
	.description("Weighs every operation of the escrow and compares with the goals and with the figures that are kept.")
	.option("--json", "print the figures as JSON")
	.option("--write", "keep the figures: bench/gas/gas.json and contracts/GAS.md")
	.addHelpText("after", "\nExits with 1 when a figure is above its goal or not the kept one.")
	.parse()
	.opts<{ json?: boolean; write?: boolean }>();

const report = await measure();
if (write) keep(report);
process.stdout.write(json ? `${JSON.stringify(report.erc3009, null, 2)}\n` : gasPage(report));
for (const complaint of complaintsAbout(report)) {
	process.stderr.write(`gas: ${complaint}\n`);
	process.exitCode = 1;
}
