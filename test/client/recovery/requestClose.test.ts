import type { Address } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requestClose } from "../../../src/client/recovery/requestClose.ts";
import type { PayerStore } from "../../../src/client/store/store.ts";
import { approveCall, requestCloseCall, topUpCall, transferCall } from "../../../src/escrow/index.ts";
import { createStage, type Stage } from "../stage.ts";
import { keptChannels } from "./keptChannels.ts";
import { DEPOSIT, type Funded, GRACE_SECONDS, partsFor, recordOf, rpc, thrown, transactionsOf } from "./support.ts";

let stage: Stage;
const { keptChannel } = keptChannels(() => stage);
beforeAll(async () => {
	stage = await createStage();
});
afterAll(() => stage.stop());

const closeRequestedAt = async ({ channelId }: Funded) => (await stage.onChain(channelId))?.closeRequestedAt;

describe("a payer asks the escrow for the close", () => {
	it("by its own transaction, which is in the store before it is broadcast, and signs no more vouchers", async () => {
		const { channel, store, parts } = await keptChannel();
		const before = await transactionsOf(stage, channel.payer);
		const phases: string[] = [];
		let wasKept: unknown;
		const spied = {
			...parts,
			store: new Proxy(store, {
				get: (target, name) => {
					const member = Reflect.get(target, name) as unknown;
					if (name !== "write") return typeof member === "function" ? member.bind(target) : member;
					return async (write: Parameters<PayerStore["write"]>[0]) => {
						wasKept ??= { sent: await transactionsOf(stage, channel.payer), recovery: write.channel?.record.recovery };
						return store.write(write);
					};
				},
			}),
		};
		const request = await requestClose(spied, channel.channelId, { onProgress: ({ phase }) => phases.push(phase) });
		const seen = await closeRequestedAt(channel);
		expect(request).toMatchObject({
			outcome: "requested",
			deposit: DEPOSIT,
			settled: 0n,
			closeRequestedAt: seen,
			withdrawableAt: Number(seen) + GRACE_SECONDS,
		});
		expect(wasKept).toMatchObject({ sent: before, recovery: [{ kind: "requestClose", nonce: before }] });
		expect(await transactionsOf(stage, channel.payer)).toBe(before + 1);
		const record = await recordOf(store, channel.channelId);
		expect(record).toMatchObject({ status: "forgotten", recovery: [{ kind: "requestClose" }] });
		expect(record?.recovery?.[0]?.hash).toBe("hash" in request ? request.hash : undefined);
		expect(phases).toEqual(["sending", "mining"]);
		expect(await store.take(channel.record.key)).toBeUndefined();
	});

	it("once, however often it asks", async () => {
		const { channel, parts } = await keptChannel();
		const first = await requestClose(parts, channel.channelId);
		const sent = await transactionsOf(stage, channel.payer);
		const second = await requestClose(parts, channel.channelId);
		expect(second).toEqual({ ...first, outcome: "found" });
		expect(await transactionsOf(stage, channel.payer)).toBe(sent);
	});

	it("not again when somebody else has asked for it with the payer's key", async () => {
		const { channel, store, parts } = await keptChannel();
		await stage.send(requestCloseCall(stage.escrow, channel.channelId), channel.payer);
		const sent = await transactionsOf(stage, channel.payer);
		const request = await requestClose(parts, channel.channelId);
		expect(request).toMatchObject({ outcome: "found", closeRequestedAt: await closeRequestedAt(channel) });
		expect(await transactionsOf(stage, channel.payer)).toBe(sent);
		expect(await recordOf(store, channel.channelId)).toMatchObject({ status: "forgotten" });
	});

	it("again after a top-up of its own has cancelled the request", async () => {
		const { channel, parts } = await keptChannel();
		await requestClose(parts, channel.channelId);
		const helper = await stage.payer({ gas: true });
		await stage.send(transferCall(stage.token, channel.payer.address, 5n), helper);
		await stage.send(approveCall(stage.token, stage.escrow, 5n), channel.payer);
		await stage.send(topUpCall(stage.escrow, channel.channelId, 5n), channel.payer);
		expect(await closeRequestedAt(channel)).toBe(0);
		expect(await requestClose(parts, channel.channelId)).toMatchObject({ outcome: "requested", deposit: DEPOSIT + 5n });
		expect(await closeRequestedAt(channel)).not.toBe(0);
	});

	it("and waits for one that is on its way, instead of sending another one", async () => {
		const { channel, store, parts } = await keptChannel();
		const sent = await transactionsOf(stage, channel.payer);
		await rpc(stage, "evm_setAutomine", [false]);
		try {
			const stop = new AbortController();
			const first = requestClose(parts, channel.channelId, {
				signal: stop.signal,
				onProgress: ({ phase }) => phase === "mining" && setTimeout(() => stop.abort(new Error("stopped")), 300),
			});
			expect((await thrown(first)).message).toBe("stopped");
			const again = requestClose(partsFor(stage, channel.payer, store), channel.channelId, {
				onProgress: ({ phase }) => phase === "mining" && void rpc(stage, "evm_mine"),
			});
			expect(await again).toMatchObject({ outcome: "requested" });
		} finally {
			await rpc(stage, "evm_setAutomine", [true]);
		}
		expect(await transactionsOf(stage, channel.payer)).toBe(sent + 1);
		expect((await recordOf(store, channel.channelId))?.recovery).toHaveLength(1);
	});
});

describe("nothing is sent, and the channel stays usable, where", () => {
	it("the payer has no gas", async () => {
		const { channel, store, parts } = await keptChannel();
		await rpc(stage, "anvil_setBalance", [channel.payer.address, "0x0"]);
		expect(await thrown(requestClose(parts, channel.channelId))).toMatchObject({ code: "NO_GAS" });
		expect(await recordOf(store, channel.channelId)).toEqual(channel.record);
		expect(await store.take(channel.record.key)).toBeDefined();
	});

	it("the key is another payer's", async () => {
		const { channel, store } = await keptChannel();
		const other = await stage.payer({ gas: true });
		const error = await thrown(requestClose(partsFor(stage, other, store), channel.channelId));
		expect(error).toMatchObject({ code: "WRONG_PAYER" });
		expect(await closeRequestedAt(channel)).toBe(0);
	});

	it("nothing was ever deposited", async () => {
		const { channel, parts } = await keptChannel({ isOpened: false });
		expect(await thrown(requestClose(parts, channel.channelId))).toMatchObject({ code: "NOTHING_DEPOSITED" });
	});

	it("the wallet has no such channel", async () => {
		const { parts } = await keptChannel();
		const error = await thrown(requestClose(parts, `0x${"ab".repeat(32)}`));
		expect(error).toMatchObject({ code: "CHANNEL_UNKNOWN" });
	});

	it("the node is of another chain", async () => {
		const { channel, parts } = await keptChannel();
		const nodes = {
			...parts.nodes,
			at: async () => Promise.reject(Object.assign(new Error("chain"), { code: "POLICY" })),
		};
		expect(
			await thrown(
				requestClose({ ...parts, nodes: { ...nodes, wallet: () => parts.nodes.wallet(1) } }, channel.channelId),
			),
		).toMatchObject({ code: "POLICY" });
		expect(await closeRequestedAt(channel)).toBe(0);
	});
});

it("a payer that is a contract gets the call to make, and the request is found when it was made", async () => {
	const { channel, store, parts } = await keptChannel();
	// Code at its address, as a contract wallet has; its key stands for whoever makes the wallet call.
	await rpc(stage, "anvil_setCode", [channel.payer.address, "0x00"]);
	const error = await thrown(requestClose(parts, channel.channelId));
	expect(error).toMatchObject({ code: "CONTRACT_PAYER", kind: "requestClose", to: stage.escrow });
	expect(await recordOf(store, channel.channelId)).toMatchObject({ status: "forgotten" });
	await rpc(stage, "anvil_setCode", [channel.payer.address, "0x"]);
	await stage.send({ to: error.to as Address, data: error.data as Address }, channel.payer);
	await rpc(stage, "anvil_setCode", [channel.payer.address, "0x00"]);
	expect(await requestClose(parts, channel.channelId)).toMatchObject({ outcome: "found" });
});
