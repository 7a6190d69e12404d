import { createPublicClient, http } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { RecoveryProgress } from "../../../src/client/recovery/progress.ts";
import { requestClose } from "../../../src/client/recovery/requestClose.ts";
import { withdraw } from "../../../src/client/recovery/withdraw.ts";
import { approveCall, closeCall, topUpCall, transferCall } from "../../../src/escrow/index.ts";
import { RpcProxy } from "../../support/rpcProxy.ts";
import { createStage, type Stage } from "../stage.ts";
import { keptChannels } from "./keptChannels.ts";
import {
	advance,
	DEPOSIT,
	type Funded,
	GRACE_SECONDS,
	partsFor,
	recordOf,
	rpc,
	SIGNED,
	thrown,
	transactionsOf,
	until,
} from "./support.ts";

/** A wait in these tests is over when the chain's clock has jumped, not when time has passed. */
const POLL = { pollMs: 20 };

let stage: Stage;
const { keptChannel, closeLater } = keptChannels(() => stage);
beforeAll(async () => {
	stage = await createStage();
});
afterAll(() => stage.stop());

const balance = ({ payer }: Funded) => stage.balance(payer.address);

/** Waits until the wait has begun, and what it tells. */
function listener() {
	const told: RecoveryProgress[] = [];
	return {
		told,
		onProgress: (progress: RecoveryProgress) => void told.push(progress),
		phase: (wanted: RecoveryProgress["phase"]) => until(wanted, () => told.find(({ phase }) => phase === wanted)),
	};
}

describe("I11: the payer always gets its money back without the server", () => {
	it("exactly deposit - settled, after the grace period, with the client restarted in between", async () => {
		const { channel, folder, store, parts } = await keptChannel();
		await channel.settle(150n);
		await requestClose(parts, channel.channelId);
		const stop = new AbortController();
		const first = listener();
		const broken = withdraw(parts, channel.channelId, { ...POLL, ...first, signal: stop.signal });
		await first.phase("grace");
		stop.abort(new Error("the client ends"));
		expect((await thrown(broken)).message).toBe("the client ends");
		await store.close();

		const reopened = await folder.open();
		closeLater(reopened);
		const second = listener();
		const again = withdraw(partsFor(stage, channel.payer, reopened), channel.channelId, { ...POLL, ...second });
		await second.phase("grace");
		expect(await balance(channel)).toBe(0n);
		await advance(stage, GRACE_SECONDS);
		const back = await again;
		expect(back).toMatchObject({ outcome: "withdrawn", deposit: DEPOSIT, settled: 150n, refund: DEPOSIT - 150n });
		expect(await balance(channel)).toBe(DEPOSIT - 150n);
		expect(await stage.balance(channel.payee.address)).toBe(150n);
		expect(await stage.onChain(channel.channelId)).toMatchObject({ finalized: true, settled: 150n });
		expect(await recordOf(reopened, channel.channelId)).toMatchObject({ status: "closed" });
		expect(second.told.map(({ phase }) => phase).slice(-2)).toEqual(["sending", "mining"]);
	});

	it("whatever the payee redeems meanwhile, which is told", async () => {
		const { channel, parts } = await keptChannel();
		await requestClose(parts, channel.channelId);
		const heard = listener();
		const back = withdraw(parts, channel.channelId, { ...POLL, ...heard });
		await heard.phase("grace");
		await channel.settle(SIGNED);
		expect(await heard.phase("settled")).toMatchObject({ settled: SIGNED, delta: SIGNED });
		await advance(stage, GRACE_SECONDS);
		expect(await back).toMatchObject({ outcome: "withdrawn", settled: SIGNED, refund: DEPOSIT - SIGNED });
		expect(await balance(channel)).toBe(DEPOSIT - SIGNED);
	});

	it("and sends nothing where the payee closes the channel meanwhile, which is told", async () => {
		const { channel, store, parts } = await keptChannel();
		await requestClose(parts, channel.channelId);
		const sent = await transactionsOf(stage, channel.payer);
		const heard = listener();
		const back = withdraw(parts, channel.channelId, { ...POLL, ...heard });
		await heard.phase("grace");
		const close = closeCall(stage.escrow, channel.channelId, 300n, await channel.voucher(300n));
		const hash = await stage.send(close, channel.payee);
		expect(await back).toMatchObject({ outcome: "closed", settled: 300n, refund: DEPOSIT - 300n, hash });
		expect(await balance(channel)).toBe(DEPOSIT - 300n);
		expect(await transactionsOf(stage, channel.payer)).toBe(sent);
		expect(await recordOf(store, channel.channelId)).toMatchObject({ status: "closed" });
	});

	it("once: asked again it tells what came back, and sends nothing", async () => {
		const { channel, parts } = await keptChannel();
		await requestClose(parts, channel.channelId);
		await advance(stage, GRACE_SECONDS);
		const back = await withdraw(parts, channel.channelId, POLL);
		const sent = await transactionsOf(stage, channel.payer);
		expect(await withdraw(parts, channel.channelId, POLL)).toEqual(back);
		expect(await requestClose(parts, channel.channelId)).toMatchObject({ outcome: "finalized" });
		expect(await transactionsOf(stage, channel.payer)).toBe(sent);
	});

	it("by one transaction, where two processes wait for it", async () => {
		const { channel, folder, parts } = await keptChannel();
		const other = await folder.open();
		closeLater(other);
		await requestClose(parts, channel.channelId);
		const sent = await transactionsOf(stage, channel.payer);
		const heard = [listener(), listener()] as const;
		const both = [
			withdraw(parts, channel.channelId, { ...POLL, ...heard[0] }),
			withdraw(partsFor(stage, channel.payer, other), channel.channelId, { ...POLL, ...heard[1] }),
		];
		await Promise.all(heard.map(({ phase }) => phase("grace")));
		await advance(stage, GRACE_SECONDS);
		const [one, two] = await Promise.all(both);
		expect(one).toMatchObject({ outcome: "withdrawn", refund: DEPOSIT });
		expect(two).toEqual(one);
		expect(await transactionsOf(stage, channel.payer)).toBe(sent + 1);
	});

	it("while its node fails now and then, which is told once", async () => {
		const proxy = await RpcProxy.start(stage.chain.url);
		try {
			const transport = http(proxy.url, { retryCount: 0 });
			const client = createPublicClient({ transport, pollingInterval: 20, cacheTime: 0 });
			const { channel, parts } = await keptChannel({}, client);
			await requestClose(parts, channel.channelId);
			const heard = listener();
			const back = withdraw(parts, channel.channelId, { ...POLL, ...heard });
			await heard.phase("grace");
			proxy.down();
			await heard.phase("node-failing");
			const calls = proxy.calls();
			await until("some more failures", () => proxy.calls() > calls + 5);
			proxy.up();
			await heard.phase("node-back");
			await advance(stage, GRACE_SECONDS);
			expect(await back).toMatchObject({ outcome: "withdrawn", refund: DEPOSIT });
			expect(heard.told.filter(({ phase }) => phase === "node-failing")).toHaveLength(1);
			expect(
				JSON.stringify(heard.told, (_, value) => (typeof value === "bigint" ? String(value) : value)),
			).not.toContain(RpcProxy.API_KEY);
		} finally {
			await proxy.stop();
		}
	});

	it("by the local clock where no block comes to tell the time, as soon as the chain lets it", async () => {
		const { channel, parts } = await keptChannel();
		await requestClose(parts, channel.channelId);
		const late = { ...parts, now: () => Date.now() };
		const heard = listener();
		const back = withdraw(late, channel.channelId, { ...POLL, ...heard });
		await heard.phase("grace");
		// The chain's next block will be late enough, and there is none yet; then the local clock has come that far, too.
		await rpc(stage, "evm_increaseTime", [GRACE_SECONDS]);
		late.now = () => Date.now() + GRACE_SECONDS * 1_000;
		expect(await back).toMatchObject({ outcome: "withdrawn", refund: DEPOSIT });
	});
});

describe("nothing is sent where", () => {
	it("the grace period is not over and nobody waits", async () => {
		const { channel, parts } = await keptChannel();
		const request = await requestClose(parts, channel.channelId);
		const sent = await transactionsOf(stage, channel.payer);
		const error = await thrown(withdraw(parts, channel.channelId, { wait: false }));
		expect(error).toMatchObject({ code: "GRACE_PERIOD", channelId: channel.channelId });
		expect(error.withdrawableAt).toBe("withdrawableAt" in request ? request.withdrawableAt : undefined);
		expect(error.untilSeconds).toBeLessThanOrEqual(GRACE_SECONDS);
		expect(await transactionsOf(stage, channel.payer)).toBe(sent);
	});

	it("the local clock runs ahead of the chain's, and the wait goes on", async () => {
		const { channel, parts } = await keptChannel();
		await requestClose(parts, channel.channelId);
		const sent = await transactionsOf(stage, channel.payer);
		const hasty = { ...parts, now: () => Date.now() };
		const heard = listener();
		const back = withdraw(hasty, channel.channelId, { ...POLL, ...heard, maxWaitMs: 10 * GRACE_SECONDS * 1_000 });
		await heard.phase("grace");
		hasty.now = () => Date.now() + 2 * GRACE_SECONDS * 1_000;
		// It tries, and the chain says that it is too early.
		await heard.phase("sending");
		expect(await transactionsOf(stage, channel.payer)).toBe(sent);
		await advance(stage, GRACE_SECONDS);
		expect(await back).toMatchObject({ outcome: "withdrawn" });
		expect(await transactionsOf(stage, channel.payer)).toBe(sent + 1);
	});

	it("it has waited as long as it was to", async () => {
		const { channel, parts } = await keptChannel();
		await requestClose(parts, channel.channelId);
		const error = await thrown(withdraw(parts, channel.channelId, { ...POLL, maxWaitMs: 100 }));
		expect(error).toMatchObject({ code: "GRACE_PERIOD" });
	});

	it("nobody has asked for the close, or a top-up has cancelled that", async () => {
		const { channel, parts } = await keptChannel();
		expect(await thrown(withdraw(parts, channel.channelId, POLL))).toMatchObject({ code: "CLOSE_NOT_REQUESTED" });
		await requestClose(parts, channel.channelId);
		const heard = listener();
		const back = withdraw(parts, channel.channelId, { ...POLL, ...heard });
		const failed = thrown(back);
		await heard.phase("grace");
		await stage.send(transferCall(stage.token, channel.payer.address, 5n), await stage.payer({ gas: true }));
		await stage.send(approveCall(stage.token, stage.escrow, 5n), channel.payer);
		await stage.send(topUpCall(stage.escrow, channel.channelId, 5n), channel.payer);
		expect(await failed).toMatchObject({ code: "CLOSE_NOT_REQUESTED" });
	});

	it("the payer has no gas: it can be given some later", async () => {
		const { channel, store, parts } = await keptChannel();
		await requestClose(parts, channel.channelId);
		await advance(stage, GRACE_SECONDS);
		await rpc(stage, "anvil_setBalance", [channel.payer.address, "0x0"]);
		expect(await thrown(withdraw(parts, channel.channelId, POLL))).toMatchObject({ code: "NO_GAS" });
		expect(await recordOf(store, channel.channelId)).toMatchObject({ status: "forgotten" });
		await stage.giveGas(channel.payer.address);
		expect(await withdraw(parts, channel.channelId, POLL)).toMatchObject({ outcome: "withdrawn" });
	});
});

it("a payer that is a contract gets the call to make, once it may be made", async () => {
	const { channel, parts } = await keptChannel();
	await requestClose(parts, channel.channelId);
	await rpc(stage, "anvil_setCode", [channel.payer.address, "0x00"]);
	const heard = listener();
	const failed = thrown(withdraw(parts, channel.channelId, { ...POLL, ...heard }));
	await heard.phase("grace");
	await advance(stage, GRACE_SECONDS);
	const error = await failed;
	expect(error).toMatchObject({ code: "CONTRACT_PAYER", kind: "withdraw", to: stage.escrow });
	await rpc(stage, "anvil_setCode", [channel.payer.address, "0x"]);
	await stage.send({ to: stage.escrow, data: error.data as `0x${string}` }, channel.payer);
	await rpc(stage, "anvil_setCode", [channel.payer.address, "0x00"]);
	expect(await withdraw(parts, channel.channelId, POLL)).toMatchObject({ outcome: "withdrawn", refund: DEPOSIT });
});
