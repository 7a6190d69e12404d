/** The examples that pay for a stream: the one for Node runs as it stands, the page's script is bundled and runs too. */

import { execFile } from "node:child_process";
import { builtinModules } from "node:module";
import { join } from "node:path";
import { promisify } from "node:util";
import { runInNewContext } from "node:vm";
import { build } from "esbuild";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { transferCall } from "../../src/escrow/index.ts";
import { type Meter, meterOf } from "../../src/server/index.ts";
import { sendFrom } from "../support/payer.ts";
import { createWorld, type PaidServer, type Routes, type World } from "../support/world.ts";
import { until } from "./streamStage.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const WORDS = Array.from({ length: 120 }, (_, index) => `word${index} `);

const routes: Routes = (app) => {
	const payment = { price: 100n, unitType: "token", suggestedDeposit: 20_000n, metered: true as const };
	app.get("/chat", { config: { payment } }, (request) => words(meterOf(request.payment)));
};

async function* words(meter: Meter) {
	for (const [index, word] of WORDS.entries()) {
		await meter.charge();
		yield { id: String(index), data: word };
	}
}

let world: World;
let server: PaidServer;
beforeAll(async () => {
	world = await createWorld();
	server = await world.serve({ routes });
});
afterAll(() => world.stop());

/** A key whose account has tokens. */
async function filledKey(key = generatePrivateKey()) {
	const { account } = await world.payer({ gas: true });
	const { client, chainId } = world.chain;
	const call = { ...transferCall(world.token, privateKeyToAccount(key).address, 100_000n), to: world.token };
	await sendFrom({ client, chainId }, account, call);
	return key;
}

describe("the examples for streams", () => {
	it("run in Node as they stand: an answer paid by the token, and one close", async () => {
		const PAYER_KEY = await filledKey();
		const { stdout } = await promisify(execFile)(
			process.execPath,
			["--disable-warning=ExperimentalWarning", "--conditions=sluice-source", join(ROOT, "examples/streamClient.ts")],
			{
				env: {
					PATH: process.env.PATH,
					RPC_URL: world.chain.url,
					CHAIN_ID: String(world.chain.chainId),
					ESCROW: world.escrow,
					TOKEN: world.token,
					PAYER_KEY,
					API: server.url,
				},
			},
		);
		expect(stdout).toContain(WORDS.join(""));
		expect(stdout).toContain("spent: 12000n");
		expect(await world.balance(privateKeyToAccount(PAYER_KEY).address)).toBe(88_000n);
	});

	it("run in a page: bundled for a browser, with nothing of Node in them", async () => {
		const { metafile, outputFiles } = await build({
			absWorkingDir: ROOT,
			entryPoints: ["examples/browser/pay.ts"],
			bundle: true,
			format: "iife",
			platform: "browser",
			conditions: ["sluice-source"],
			write: false,
			metafile: true,
			logLevel: "silent",
		});
		const imported = Object.values(metafile.inputs).flatMap(({ imports }) => imports);
		expect(imported.filter(({ path }) => path.startsWith("node:") || builtinModules.includes(path))).toEqual([]);
		const page = fakePage({
			api: server.url,
			rpcUrl: world.chain.url,
			chainId: String(world.chain.chainId),
			escrow: world.escrow,
			token: world.token,
		});
		page.storage.set("purse", await filledKey());
		runInNewContext(outputFiles[0]?.text ?? "", page.globals);
		await page.byId("ask").onsubmit?.({ preventDefault: () => undefined });
		expect(page.byId("answer").textContent).toBe(WORDS.join(""));
		page.byId("close").onclick?.();
		await until(() => page.byId("paid").textContent.startsWith("Closed"));
		expect(page.byId("paid").textContent).toBe("Closed; paid in all: 12000");
		expect(page.storage.get("channels")).toBe("[]");
	});
});

type FakeElement = {
	textContent: string;
	value: string;
	append(text: string): void;
	onclick?: () => void;
	onsubmit?: (event: object) => Promise<void>;
};

/** As much of a browser as the page uses. */
function fakePage(dataset: Readonly<Record<string, string>>) {
	const storage = new Map<string, string>();
	const elements = new Map<string, FakeElement>();
	const byId = (id: string): FakeElement => {
		const element = elements.get(id) ?? {
			textContent: "",
			value: "Why?",
			append(text: string) {
				this.textContent += text;
			},
		};
		elements.set(id, element);
		return element;
	};
	const { fetch, Request, Response, Headers, Blob, URL, AbortController, AbortSignal, ReadableStream } = globalThis;
	const { TextEncoder, TextDecoder, crypto, setTimeout, clearTimeout, performance, atob, btoa, Event } = globalThis;
	return {
		storage,
		byId,
		globals: {
			...{ fetch, Request, Response, Headers, Blob, URL, AbortController, AbortSignal, ReadableStream },
			...{ TextEncoder, TextDecoder, crypto, setTimeout, clearTimeout, performance, atob, btoa, Event, console },
			...{ Uint8Array, ArrayBuffer, Error, TypeError, DOMException, queueMicrotask },
			document: { body: { dataset }, getElementById: byId },
			localStorage: {
				getItem: (name: string) => storage.get(name) ?? null,
				setItem: (name: string, value: string) => storage.set(name, value),
			},
		},
	};
}
