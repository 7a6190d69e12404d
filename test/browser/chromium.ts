import { accessSync, constants } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { type BrowserContext, chromium, type Page } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
const OF_A_MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";

/** It loads what the test serves and asks nobody for anything else. */
const ARGS = [
	"--headless",
	"--no-sandbox",
	"--disable-gpu",
	"--disable-quic",
	"--no-first-run",
	"--disable-background-networking",
	"--disable-component-update",
	"--disable-sync",
];

/** There is no Chromium here. */
export class NoBrowserError extends Error {
	override readonly name = "NoBrowserError";
	readonly code = "NO_BROWSER";
	constructor(looked: string) {
		super(
			`no Chromium: ${looked}. Install one (Debian: apt-get install chromium), or say where it is: SLUICE_CHROMIUM=<path> npm run test:browser`,
		);
	}
}

/**
 * Where the browser is: `SLUICE_CHROMIUM`, else the first of its usual names in the `PATH`.
 *
 * @throws NoBrowserError
 */
export function findChromium({ SLUICE_CHROMIUM: named, PATH = "" }: NodeJS.ProcessEnv = process.env): string {
	if (named !== undefined && named !== "") {
		if (isProgram(named)) return named;
		throw new NoBrowserError(`SLUICE_CHROMIUM=${named} is no program`);
	}
	const folders = PATH.split(delimiter).filter((folder) => folder !== "");
	const found = [...NAMES.flatMap((name) => folders.map((folder) => join(folder, name))), OF_A_MAC].find(isProgram);
	if (found === undefined) throw new NoBrowserError(`none of ${NAMES.join(", ")} is in the PATH`);
	return found;
}

function isProgram(path: string): boolean {
	try {
		accessSync(path, constants.X_OK);
		return true;
	} catch {
		return false;
	}
}

/** A browser with a profile of its own: what it stores outlives it, until `forget`. */
export type Browser = Readonly<{
	version: string;
	/** A new tab, whose errors go to `say`. */
	open(url: string): Promise<Page>;
	/** Crashes it, and starts it again on the same profile. */
	kill(): Promise<void>;
	/** Ends it and deletes its profile. */
	forget(): Promise<void>;
}>;

/** Starts Chromium with an empty profile. */
export async function startChromium(executablePath: string, say: (text: string) => void): Promise<Browser> {
	const profile = await mkdtemp(join(tmpdir(), "sluice-browser-"));
	const start = () => chromium.launchPersistentContext(profile, { executablePath, args: ARGS });
	let context: BrowserContext = await start();
	return {
		version: context.browser()?.version() ?? "unknown",
		async open(url) {
			const page = await context.newPage();
			page.on("pageerror", (error) => say(`the page failed: ${error.message}`));
			page.on("console", (message) => {
				// Chromium's own line for each first, unpaid answer.
				const isOffer = message.text().includes("status of 402");
				if (message.type() === "error" && !isOffer) say(`the page said: ${message.text()}`);
			});
			await page.goto(url);
			return page;
		},
		async kill() {
			const gone = new Promise((resolve) => context.on("close", resolve));
			const [page] = context.pages();
			if (page === undefined) throw new Error("a browser without a page can't be told anything");
			const devTools = await context.newCDPSession(page);
			// It never answers.
			devTools.send("Browser.crash").catch(() => undefined);
			await gone;
			context = await start();
		},
		async forget() {
			await context.close();
			await rm(profile, { recursive: true, force: true, maxRetries: 5 });
		},
	};
}
