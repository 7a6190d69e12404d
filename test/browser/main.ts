/**
 * `npm run test:browser`: the client, built for browsers, pays in a real one. Not part of `npm test`, which needs no browser.
 */
import { Command } from "commander";
import { bundlePage, type Sizes } from "./bundle.ts";
import { CASES, type Case } from "./cases.ts";
import { type Browser, findChromium, startChromium } from "./chromium.ts";
import { type Site, startSite } from "./site.ts";
import { createStage } from "./stage.ts";

type Played = Readonly<{ title: string; passed: boolean; seconds: number; error?: string } & Record<string, unknown>>;

const { json, only } = new Command("test:browser")
	.description(
		"Builds the client for browsers, tells its size, and has it pay in Chromium: a chain and a paid server are real.",
	)
	.option("--json", "print one JSON object in place of lines")
	.option("--only <words>", "the cases whose titles have these words")
	.addHelpText(
		"after",
		"\nTakes the Chromium at SLUICE_CHROMIUM, else the one in the PATH. Exits with 1 when a case fails.",
	)
	.parse()
	.opts<{ json?: boolean; only?: string }>();

const say = (text: string) => void process.stderr.write(`${text}\n`);
const tell = (text: string) => json || process.stdout.write(`${text}\n`);

try {
	process.exitCode = await main();
} catch (error) {
	say(error instanceof Error && "code" in error ? error.message : String(error instanceof Error ? error.stack : error));
	process.exitCode = 1;
}

async function main(): Promise<number> {
	const chosen = CASES.filter(({ title }) => title.includes(only ?? ""));
	if (chosen.length === 0) throw new Error(`no case's title has "${only}"`);
	const executable = findChromium();
	const { page, sizes } = await bundlePage();
	tell(`the page's script   ${line(sizes.page)}`);
	tell(`the same but viem   ${line(sizes.withoutViem)}`);
	const site = await startSite(page);
	const cases: Played[] = [];
	let version = "";
	try {
		for (const one of chosen) {
			const browser = await startChromium(executable, say);
			version = browser.version;
			try {
				const played = await play(one, browser, site);
				cases.push(played);
				tell(`${played.passed ? "ok    " : "FAILED"}  ${one.title} (${played.seconds} s)`);
				if (played.error !== undefined) say(played.error);
			} finally {
				await browser.forget();
			}
		}
	} finally {
		await site.stop();
	}
	const failed = cases.filter(({ passed }) => !passed).length;
	tell(`Chromium ${version}: ${cases.length - failed} passed, ${failed} failed`);
	if (json) process.stdout.write(`${JSON.stringify({ browser: version, bundle: sizes, cases, failed })}\n`);
	return failed === 0 ? 0 : 1;
}

/** On a chain and a server of its own, in a browser with an empty profile. */
async function play({ title, play }: Case, browser: Browser, site: Site): Promise<Played> {
	const startedAt = performance.now();
	const seconds = () => Math.round((performance.now() - startedAt) / 100) / 10;
	const stage = await createStage(browser, site);
	try {
		return { title, ...(await play(stage)), passed: true, seconds: seconds() };
	} catch (error) {
		return {
			title,
			passed: false,
			seconds: seconds(),
			error: error instanceof Error ? `${error.stack}` : String(error),
		};
	} finally {
		await stage.stop();
	}
}

function line({ raw, gzip, brotli }: Sizes): string {
	const kB = (bytes: number) => `${(bytes / 1_000).toFixed(1)} kB`;
	return `${kB(raw)} minified, ${kB(gzip)} gzip, ${kB(brotli)} brotli`;
}
