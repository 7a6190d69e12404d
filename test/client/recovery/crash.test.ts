/** The payer's process is killed at every step of getting its money back; the next one goes on. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { readEscrowEvents } from "../../../src/escrow/index.ts";
import { createStage, type Stage } from "../stage.ts";
import { type Order, POINTS, type Point } from "./recoverer.ts";
import {
	advance,
	DEPOSIT,
	type Funded,
	fundedChannel,
	GRACE_SECONDS,
	recordOf,
	rpc,
	transactionsOf,
	until,
	type WalletFolder,
	walletFolder,
} from "./support.ts";

const SCRIPT = new URL("./recoverer.ts", import.meta.url).pathname;

let stage: Stage;
const folders: WalletFolder[] = [];
beforeAll(async () => {
	stage = await createStage();
});
afterEach(async () => {
	for (const folder of folders.splice(0)) await folder.remove();
});
afterAll(() => stage.stop());

type Said = Readonly<{
	died?: Point;
	result?: Readonly<Record<string, unknown>>;
	error?: object;
	progress?: Readonly<{ phase: string }>;
}>;

/** A payer's process; `said` grows. */
function recoverer(order: Omit<Order, "rpcUrl">) {
	const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", SCRIPT], {
		stdio: ["pipe", "pipe", "inherit"],
	});
	const said: Said[] = [];
	createInterface({ input: child.stdout }).on("line", (line) => said.push(JSON.parse(line) as Said));
	child.stdin.on("error", () => undefined);
	child.stdin.write(`${JSON.stringify({ rpcUrl: stage.chain.url, ...order })}\n`);
	const closed = once(child, "close");
	return {
		said,
		kill: () => child.kill("SIGKILL"),
		phase: (wanted: string) => until(wanted, () => said.find(({ progress }) => progress?.phase === wanted)),
		async ended(): Promise<Said> {
			await closed;
			return Object.assign({}, ...said) as Said;
		},
	};
}

async function kept() {
	const channel = await fundedChannel(stage);
	const folder = await walletFolder(channel.record);
	folders.push(folder);
	const run = (work: Order["work"], dieAt?: Point) =>
		recoverer({ wallet: folder.path, key: channel.key, channelId: channel.channelId, work, ...(dieAt && { dieAt }) });
	return { channel, folder, run };
}

async function eventsOf({ channelId }: Funded): Promise<readonly string[]> {
	const toBlock = await stage.chain.client.getBlockNumber({ cacheTime: 0 });
	const events = await readEscrowEvents(stage.chain.client, stage.escrow, { fromBlock: 0n, toBlock, channelId });
	return events.map(({ name }) => name);
}

async function recoveryOf(folder: WalletFolder, { channelId }: Funded) {
	const store = await folder.open();
	const record = await recordOf(store, channelId);
	await store.close();
	return { status: record?.status, kinds: (record?.recovery ?? []).map(({ kind }) => kind) };
}

describe("killed (SIGKILL), and run again, I11:", { timeout: 120_000 }, () => {
	it.each(POINTS)("%s of a request to close: it is requested by one transaction", async (point) => {
		const { channel, folder, run } = await kept();
		const sent = await transactionsOf(stage, channel.payer);
		expect(await run("requestClose", point).ended()).toMatchObject({ died: point });
		const isKept = point !== "before-write";
		const isSent = point === "after-broadcast" || point === "after-mined";
		expect(await recoveryOf(folder, channel)).toEqual({
			status: isKept ? "forgotten" : "open",
			kinds: isKept ? ["requestClose"] : [],
		});
		expect(await transactionsOf(stage, channel.payer)).toBe(sent + (isSent ? 1 : 0));

		const { result } = await run("requestClose").ended();
		expect(result).toMatchObject({ outcome: isSent ? "found" : "requested" });
		expect(await transactionsOf(stage, channel.payer)).toBe(sent + 1);
		expect(await eventsOf(channel)).toEqual(["ChannelOpened", "CloseRequested"]);
		expect(await recoveryOf(folder, channel)).toMatchObject({ status: "forgotten" });
	});

	it.each(POINTS)("%s of a withdrawal: exactly deposit - settled comes back, by one transaction", async (point) => {
		const { channel, folder, run } = await kept();
		await channel.settle(250n);
		expect((await run("requestClose").ended()).result).toMatchObject({ outcome: "requested" });
		const waiting = run("withdraw");
		await waiting.phase("grace");
		waiting.kill();
		await waiting.ended();
		await advance(stage, GRACE_SECONDS);
		const sent = await transactionsOf(stage, channel.payer);
		expect(await run("withdraw", point).ended()).toMatchObject({ died: point });

		const { result } = await run("withdraw").ended();
		expect(result).toMatchObject({ outcome: "withdrawn", settled: "250", refund: String(DEPOSIT - 250n) });
		expect(await stage.balance(channel.payer.address)).toBe(DEPOSIT - 250n);
		expect(await transactionsOf(stage, channel.payer)).toBe(sent + 1);
		expect(await recoveryOf(folder, channel)).toMatchObject({ status: "closed" });
	});

	it("after the broadcast, while nothing is mined: the next process waits for the same transaction", async () => {
		const { channel, folder, run } = await kept();
		const sent = await transactionsOf(stage, channel.payer);
		await rpc(stage, "evm_setAutomine", [false]);
		try {
			expect(await run("requestClose", "after-broadcast").ended()).toMatchObject({ died: "after-broadcast" });
			const next = run("requestClose");
			await next.phase("mining");
			await rpc(stage, "evm_mine");
			expect((await next.ended()).result).toMatchObject({ outcome: "requested" });
		} finally {
			await rpc(stage, "evm_setAutomine", [true]);
		}
		expect(await transactionsOf(stage, channel.payer)).toBe(sent + 1);
		expect(await recoveryOf(folder, channel)).toMatchObject({ kinds: ["requestClose"] });
	});

	it("after the broadcast, and the node has dropped it: another one is sent, with the same nonce", async () => {
		const { channel, folder, run } = await kept();
		const sent = await transactionsOf(stage, channel.payer);
		await rpc(stage, "evm_setAutomine", [false]);
		expect(await run("requestClose", "after-broadcast").ended()).toMatchObject({ died: "after-broadcast" });
		const store = await folder.open();
		const [dropped] = (await recordOf(store, channel.channelId))?.recovery ?? [];
		await store.close();
		await rpc(stage, "anvil_dropTransaction", [dropped?.hash]);
		await rpc(stage, "evm_setAutomine", [true]);
		expect((await run("requestClose").ended()).result).toMatchObject({ outcome: "requested" });
		expect(await transactionsOf(stage, channel.payer)).toBe(sent + 1);
		expect(await eventsOf(channel)).toEqual(["ChannelOpened", "CloseRequested"]);
	});

	it("after the broadcast, and another transaction has its nonce: another one is sent", async () => {
		const { channel, run } = await kept();
		await rpc(stage, "evm_setAutomine", [false]);
		expect(await run("requestClose", "after-broadcast").ended()).toMatchObject({ died: "after-broadcast" });
		const nonce = await transactionsOf(stage, channel.payer);
		const { client, chainId } = stage.chain;
		const fees = { maxFeePerGas: 10n ** 11n, maxPriorityFeePerGas: 10n ** 10n };
		const other = { type: "eip1559", chainId, nonce, to: channel.payee.address, gas: 21_000n, ...fees } as const;
		const replaced = await client.sendRawTransaction({
			serializedTransaction: await channel.payer.signTransaction(other),
		});
		await rpc(stage, "evm_mine");
		await rpc(stage, "evm_setAutomine", [true]);
		expect((await client.getTransactionReceipt({ hash: replaced })).status).toBe("success");
		expect(await eventsOf(channel)).toEqual(["ChannelOpened"]);
		expect((await run("requestClose").ended()).result).toMatchObject({ outcome: "requested" });
		expect(await eventsOf(channel)).toEqual(["ChannelOpened", "CloseRequested"]);
	});
});
