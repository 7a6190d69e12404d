/** The README's streams: its routes, read by its client and in the client's other ways. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import Fastify from "fastify";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, expect, it } from "vitest";
import { declareStreams, type Model } from "../../examples/streams.ts";
import { transferCall } from "../../src/escrow/index.ts";
import { type PaidSockets, sluice } from "../../src/server/index.ts";
import { until } from "../client/streamStage.ts";
import { clientFor } from "../client/support.ts";
import { createWorld, FUNDS, type PaidServer, sendFrom, type World } from "../support/world.ts";

const ROOT = new URL("../../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, ROOT), "utf8");
const WORDS = Array.from({ length: 90 }, (_, index) => `word${index} `);

const model: Model = async function* (_prompt, from) {
	yield* WORDS.slice(from);
};

let world: World;
let server: PaidServer;
let origin: string;
let sockets: PaidSockets;
const app = Fastify({ forceCloseConnections: true });

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve();
	await app.register(sluice, { engine: server.engine });
	sockets = await declareStreams(app, server.engine, model);
	origin = await app.listen({ host: "127.0.0.1", port: 0 });
});
afterAll(async () => {
	await app.close();
	await world.stop();
});

async function agentFor(aheadUnits: number) {
	const { account, address } = await world.payer();
	const policy = { maxDeposit: 100_000n, maxPrice: 100n, maxStream: 50_000n };
	const agent = clientFor(world, account, [new URL(origin).host], policy, { stream: { aheadUnits } });
	/** Closes; what was paid on chain, and what the ledger had counted before. */
	const close = async () => {
		const [channel] = agent.channels;
		if (channel === undefined) throw new Error("no channel");
		await until(async () => (await server.amounts(channel))?.reserved === 0n, "the end of what is reserved");
		const spent = (await server.amounts(channel))?.spent;
		await agent.close();
		return { spent, paid: FUNDS - (await world.balance(address)) };
	};
	return { agent, close };
}

it.each(["streams", "streamClient"])("the README shows the example as it stands: %s", (name) => {
	expect(read("README.md").includes(read(`examples/${name}.ts`))).toBe(true);
});

it("the README's client reads the README's stream, and pays for each token", async () => {
	const { account } = await world.payer({ gas: true });
	const key = generatePrivateKey();
	const { address } = privateKeyToAccount(key);
	await sendFrom(world.chain, account, { ...transferCall(world.token, address, 50_000n), to: world.token });
	const { stdout } = await promisify(execFile)(
		process.execPath,
		["--disable-warning=ExperimentalWarning", "--conditions=sluice-source", "examples/streamClient.ts"],
		{
			cwd: ROOT,
			env: {
				PATH: process.env.PATH,
				RPC_URL: world.chain.url,
				CHAIN_ID: String(world.chain.chainId),
				ESCROW: world.escrow,
				TOKEN: world.token,
				PAYER_KEY: key,
				API: origin,
			},
		},
	);
	expect(stdout).toContain(WORDS.join(""));
	expect(stdout).toContain("spent: 9000n");
	expect(await world.balance(address)).toBe(41_000n);
});

it("a text is paid for by its bytes", async () => {
	const { agent, close } = await agentFor(200);
	const text = await (await agent.fetch(`${origin}/text`)).text();
	expect(text).toBe(WORDS.join(""));
	const bytes = BigInt(text.length);
	expect(await close()).toEqual({ spent: bytes, paid: bytes });
});

it("a whole answer costs what it has used of its estimate", async () => {
	const { agent, close } = await agentFor(100);
	const response = await agent.fetch(`${origin}/summary`);
	expect(await response.json()).toEqual({ summary: WORDS.slice(0, 50).join("") });
	expect(await close()).toEqual({ spent: 5_000n, paid: 5_000n });
});

it("a socket is paid for by its messages", async () => {
	const { agent, close } = await agentFor(20);
	const socket = await agent.socket(`${origin.replace("http", "ws")}/chat`);
	const words: unknown[] = [];
	socket.send("Why?");
	for await (const word of socket) if (words.push(word) === WORDS.length) break;
	expect(words).toEqual(WORDS);
	await socket.close();
	await until(() => sockets.size === 0, "the end of the socket");
	expect(await close()).toEqual({ spent: 9_000n, paid: 9_000n });
});
