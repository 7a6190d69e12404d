import {
	createPublicClient,
	encodeAbiParameters,
	type Hex,
	http,
	keccak256,
	numberToHex,
	type PublicClient,
	toHex,
} from "viem";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { changesOf, seen } from "../../../src/client/recovery/changes.ts";
import { requestClose } from "../../../src/client/recovery/requestClose.ts";
import { acknowledge, staleServer } from "../../../src/client/recovery/staleServer.ts";
import { type WatchEvent, watchChannels } from "../../../src/client/recovery/watch.ts";
import { withdraw } from "../../../src/client/recovery/withdraw.ts";
import type { ChannelRecord, PayerStore } from "../../../src/client/store/store.ts";
import { approveCall, closeCall, requestCloseCall, topUpCall, transferCall } from "../../../src/escrow/index.ts";
import { RpcProxy } from "../../support/rpcProxy.ts";
import { createStage, type Stage } from "../stage.ts";
import { keptChannels } from "./keptChannels.ts";
import {
	advance,
	DEPOSIT,
	type Funded,
	fundedChannel,
	GRACE_SECONDS,
	partsFor,
	rpc,
	SIGNED,
	until,
} from "./support.ts";

const STRANGER: Hex = `0x${"99".repeat(20)}`;

let stage: Stage;
const { keptChannel } = keptChannels(() => stage);
const watches: (() => Promise<void>)[] = [];
beforeAll(async () => {
	stage = await createStage();
});
afterEach(async () => {
	for (const stop of watches.splice(0)) await stop();
});
afterAll(() => stage.stop());

/** A watcher that runs until the test ends; `events` grows. It has looked once when this resolves. */
async function watching(store: PayerStore, { payer }: Funded, client?: PublicClient) {
	const events: WatchEvent[] = [];
	const end = new AbortController();
	const options = { onEvent: (event: WatchEvent) => void events.push(event), signal: end.signal, pollMs: 20 };
	const done = watchChannels(partsFor(stage, payer, store, client), options);
	watches.push(async () => {
		end.abort();
		await done;
	});
	const event = (kind: WatchEvent["kind"]) => until(kind, () => events.find((one) => one.kind === kind));
	const kinds = () => events.map(({ kind }) => kind).filter((kind) => kind !== "watching");
	await event("watching");
	return { events, event, kinds };
}

/** A store that is listed in another way. */
function withList(store: PayerStore, list: PayerStore["list"]): PayerStore {
	return new Proxy(store, {
		get(target, name) {
			if (name === "list") return list;
			const member = Reflect.get(target, name) as unknown;
			return typeof member === "function" ? member.bind(target) : member;
		},
	});
}

/**
 * An escrow that is not ours: it has settled whatever its owner says, without a voucher. Its storage is written past the
 * contract, which would never do that.
 */
async function settlePastTheContract({ channelId }: Funded, deposit: bigint, settled: bigint): Promise<void> {
	const before = await stage.onChain(channelId);
	for (let slot = 0n; slot < 16n; slot++) {
		const base = BigInt(keccak256(encodeAbiParameters([{ type: "bytes32" }, { type: "uint256" }], [channelId, slot])));
		const funds = numberToHex(base + 1n, { size: 32 });
		const stored = await stage.chain.client.getStorageAt({ address: stage.escrow, slot: funds });
		const word = BigInt(stored ?? "0x0");
		const isDepositFirst = word >> 128n === before?.deposit;
		if (!isDepositFirst && BigInt.asUintN(128, word) !== before?.deposit) continue;
		const changed = isDepositFirst ? (deposit << 128n) | settled : (settled << 128n) | deposit;
		await rpc(stage, "anvil_setStorageAt", [stage.escrow, funds, numberToHex(changed, { size: 32 })]);
		await rpc(stage, "evm_mine");
		expect(await stage.onChain(channelId)).toMatchObject({ deposit, settled });
		return;
	}
	throw new Error(`the escrow keeps ${before?.deposit} elsewhere`);
}

describe("a watcher over the kept channels", () => {
	it("has nothing to tell of a channel that is as it was kept", async () => {
		const { channel, store } = await keptChannel();
		const { events, kinds } = await watching(store, channel);
		expect(events).toEqual([{ kind: "watching", channels: 1 }]);
		expect(kinds()).toEqual([]);
	});

	it("tells of settlements, up to what was signed for", async () => {
		const { channel, store } = await keptChannel();
		const { event, kinds } = await watching(store, channel);
		await channel.settle(SIGNED);
		expect(await event("settled")).toEqual({
			kind: "settled",
			channelId: channel.channelId,
			chainId: stage.chain.chainId,
			settled: SIGNED,
			delta: SIGNED,
			signed: SIGNED,
		});
		expect(kinds()).toEqual(["settled"]);
	});

	it("raises the alarm when an escrow settles above what was signed for: it is none of ours", async () => {
		const { channel, store } = await keptChannel();
		const { event, kinds } = await watching(store, channel);
		await settlePastTheContract(channel, DEPOSIT, SIGNED + 1n);
		expect(await event("over-settled")).toMatchObject({ settled: SIGNED + 1n, signed: SIGNED, isRecorded: true });
		await settlePastTheContract(channel, DEPOSIT, DEPOSIT + 1n);
		expect(await event("impossible")).toMatchObject({ reason: `settled ${DEPOSIT + 1n} of a deposit of ${DEPOSIT}` });
		expect(kinds()).toEqual(["over-settled", "settled", "over-settled", "impossible", "settled"]);
	});

	it("raises it also where that was so before it began", async () => {
		const { channel, store } = await keptChannel();
		await settlePastTheContract(channel, DEPOSIT, SIGNED + 1n);
		expect((await watching(store, channel)).kinds()).toEqual(["over-settled"]);
	});

	it("does not raise it for what another process has signed since it read the wallet", async () => {
		const { channel, store } = await keptChannel();
		const old = await store.list();
		const held = await store.takeById(channel.channelId);
		if (held === undefined) throw new Error("the channel is not there");
		const { state } = held.record;
		const raised = { ...held.record, state: { ...state, signed: "700", consumed: "700" } };
		await store.write({ channel: { ...held, record: raised } });
		await channel.settle(700n);
		let looks = 0;
		const late = withList(store, () => (looks++ === 0 ? Promise.resolve(old) : store.list()));
		expect((await watching(late, channel)).kinds()).toEqual([]);
		expect(looks).toBeGreaterThanOrEqual(2);
	});

	it("knows its own request and withdrawal, also where they were sent after it read the wallet", async () => {
		const { channel, store, parts } = await keptChannel();
		const { channelId } = channel;
		// Each is made, and mined, between a look at the wallet and the look at the chain that follows it.
		const steps = [
			() => requestClose(parts, channelId),
			() => advance(stage, GRACE_SECONDS),
			() => withdraw(parts, channelId, { pollMs: 20 }),
		];
		let looks = 0;
		const late = withList(store, async () => {
			const listed = await store.list();
			if (looks++ > 0) await steps.shift()?.();
			return listed;
		});
		const { event } = await watching(late, channel);
		expect(await event("close-requested")).toMatchObject({ isOurs: true });
		expect(await event("finalized")).toMatchObject({ isOurs: true });
	});

	it("tells who asks for a close, when it may withdraw, and what came back", async () => {
		const { channel, store, parts } = await keptChannel();
		const { event, kinds } = await watching(store, channel);
		await requestClose(parts, channel.channelId);
		const { closeRequestedAt } = (await stage.onChain(channel.channelId)) ?? {};
		expect(await event("close-requested")).toMatchObject({
			closeRequestedAt,
			withdrawableAt: Number(closeRequestedAt) + GRACE_SECONDS,
			isOurs: true,
		});
		await advance(stage, GRACE_SECONDS);
		expect(await event("withdrawable")).toMatchObject({ rest: DEPOSIT });
		await withdraw(parts, channel.channelId, { pollMs: 20 });
		expect(await event("finalized")).toMatchObject({ settled: 0n, refund: DEPOSIT, isOurs: true });
		expect(kinds()).toEqual(["close-requested", "withdrawable", "finalized"]);
	});

	it("tells when somebody else has used the payer's key, and when the payee closes", async () => {
		const { channel, store } = await keptChannel();
		const { event } = await watching(store, channel);
		await stage.send(requestCloseCall(stage.escrow, channel.channelId), channel.payer);
		expect(await event("close-requested")).toMatchObject({ isOurs: false });
		const close = closeCall(stage.escrow, channel.channelId, 300n, await channel.voucher(300n));
		await stage.send(close, channel.payee);
		expect(await event("finalized")).toMatchObject({ settled: 300n, refund: DEPOSIT - 300n, isOurs: false });
	});

	it("tells of a top-up, and that it has cancelled the request", async () => {
		const { channel, store } = await keptChannel();
		const { event } = await watching(store, channel);
		await stage.send(requestCloseCall(stage.escrow, channel.channelId), channel.payer);
		await event("close-requested");
		await stage.send(transferCall(stage.token, channel.payer.address, 5n), await stage.payer({ gas: true }));
		await stage.send(approveCall(stage.token, stage.escrow, 5n), channel.payer);
		await stage.send(topUpCall(stage.escrow, channel.channelId, 5n), channel.payer);
		expect(await event("deposit-changed")).toMatchObject({ deposit: DEPOSIT + 5n, before: DEPOSIT });
		await event("close-cancelled");
	});

	it("goes on while its node fails, and tells that once", async () => {
		const proxy = await RpcProxy.start(stage.chain.url);
		try {
			const transport = http(proxy.url, { retryCount: 0 });
			const client = createPublicClient({ transport, pollingInterval: 20, cacheTime: 0 });
			const { channel, store } = await keptChannel();
			const { event, events, kinds } = await watching(store, channel, client);
			proxy.down();
			await event("node-failing");
			const calls = proxy.calls();
			await until("some more failures", () => proxy.calls() > calls + 5);
			await channel.settle(100n);
			proxy.up();
			await event("settled");
			expect(kinds()).toEqual(["node-failing", "node-back", "settled"]);
			const text = JSON.stringify(events, (_, value) => (typeof value === "bigint" ? String(value) : value));
			expect(text).not.toContain(RpcProxy.API_KEY);
		} finally {
			await proxy.stop();
		}
	});

	it("looks at channels that are kept later, and no more at those that were paid out before", async () => {
		const { channel, store, parts } = await keptChannel();
		await requestClose(parts, channel.channelId);
		await advance(stage, GRACE_SECONDS);
		await withdraw(parts, channel.channelId, { pollMs: 20 });
		const { event, events } = await watching(store, channel);
		expect(events).toEqual([{ kind: "watching", channels: 0 }]);
		const later = await fundedChannel(stage);
		await store.add(later.record, 10);
		await stage.send(requestCloseCall(stage.escrow, later.channelId), later.payer);
		expect(await event("close-requested")).toMatchObject({ channelId: later.channelId });
	});
});

describe("what is new about a channel", () => {
	const clock = { timestamp: 10_000, graceSeconds: GRACE_SECONDS };
	const onChain = {
		payer: STRANGER,
		payee: STRANGER,
		token: STRANGER,
		authorizedSigner: STRANGER,
		deposit: DEPOSIT,
		settled: 100n,
		closeRequestedAt: 0,
		finalized: false,
	};
	const state = { deposit: String(DEPOSIT), signed: String(SIGNED), channelId: toHex(1, { size: 32 }), chainId: 1 };
	const record = { status: "open", state } as unknown as ChannelRecord;

	it("is nothing where nothing has changed, however often it is told before", () => {
		expect(changesOf(record, seen(onChain, clock), onChain, clock)).toEqual([]);
		const over = { ...onChain, settled: SIGNED + 1n };
		expect(changesOf(record, seen(over, clock), over, clock)).toEqual([]);
	});

	it("is that it has vanished, or that what was settled has fallen: no chain goes back like that for long", () => {
		expect(changesOf(record, seen(onChain, clock), undefined, clock)).toMatchObject([{ kind: "vanished" }]);
		expect(changesOf(record, undefined, undefined, clock)).toEqual([]);
		const fallen = { ...onChain, settled: 99n };
		expect(changesOf(record, seen(onChain, clock), fallen, clock)).toMatchObject([{ kind: "impossible" }]);
	});
});

describe("a server that knows less than it has acknowledged (I2)", () => {
	const channelId = toHex(1, { size: 32 });
	const receipt = (acceptedCumulative: bigint, spent: bigint) => ({ channelId, acceptedCumulative, spent });

	it("is stale, and it is told what fell", () => {
		const before = receipt(300n, 200n);
		expect(staleServer(before, receipt(300n, 200n))).toBeUndefined();
		expect(staleServer(before, receipt(400n, 300n))).toBeUndefined();
		expect(staleServer(undefined, receipt(0n, 0n))).toBeUndefined();
		expect(staleServer(before, receipt(300n, 100n))).toMatchObject({ channelId, fell: ["spent"] });
		expect(staleServer(before, receipt(200n, 200n))).toMatchObject({ fell: ["acceptedCumulative"] });
		expect(staleServer(before, receipt(100n, 100n))?.fell).toEqual(["acceptedCumulative", "spent"]);
	});

	it("is not so because answers overtake each other: what counts is what was known when the request left", () => {
		const atStart = acknowledge(undefined, receipt(100n, 100n));
		const late = acknowledge(atStart, receipt(300n, 300n));
		expect(staleServer(atStart, receipt(200n, 200n))).toBeUndefined();
		expect(acknowledge(late, receipt(200n, 200n))).toEqual({ acceptedCumulative: 300n, spent: 300n });
	});
});
