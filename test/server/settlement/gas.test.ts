import { encodeFunctionData } from "viem";
import { beforeEach, describe, expect, it } from "vitest";
import { paymentChannelEscrowAbi } from "../../../src/escrow/generated/escrow.ts";
import { createSmartPayer, rpc } from "../../support/sessionDrafts.ts";
import { useWorld } from "../../support/useWorld.ts";
import type { PaidServer, Payer, TestChannel } from "../../support/world.ts";
import { costOfSettle, eventually, listen, openBooks, owing, QUIET, setGasPrice } from "./support.ts";

const world = useWorld();
const GWEI = 10n ** 9n;
/** Settling by itself costs about 200 units at one gwei, and about 4,000 at forty. */
const COIN_PRICE = 1_500_000n;

let server: PaidServer;
let payer: Payer;
let listener: ReturnType<typeof listen>;
let coinPrice: () => bigint | Promise<bigint>;

beforeEach(async () => {
	await setGasPrice(world, GWEI);
	payer = await world.payer({ gas: true });
	listener = listen();
	coinPrice = () => COIN_PRICE;
	server = await world.serve({
		engine: {
			settlement: { ...QUIET, maxUnsettled: 4_000n, coinPrice: () => coinPrice() },
			watch: { pollMs: 1_000 },
			hooks: listener.hooks,
		},
	});
});

const onChain = async (channel: TestChannel) => {
	const found = await world.onChain(channel);
	return found && { settled: found.settled, finalized: found.finalized };
};
const OPEN = { settled: 0n, finalized: false };

describe("while gas is dear", () => {
	it("nothing uneconomic is sent; what may be lost is, if it is worth more than its gas (I9)", async () => {
		const books = await openBooks(world, server, [payer]);
		const routine = await owing(server, payer, 5_000n);
		const atRisk = await owing(server, payer, 9_000n);
		const dust = await owing(server, payer, 1_000n);
		await setGasPrice(world, 40n * GWEI);
		for (const channel of [atRisk, dust]) await payer.requestClose(channel);
		const cost = await costOfSettle(world, COIN_PRICE);
		expect(cost).toBeGreaterThan(1_500n);
		expect(cost).toBeLessThan(7_000n);
		for (let run = 0; run < 3; run++) await server.engine.settle();
		expect(await Promise.all([routine, atRisk, dust].map(onChain))).toEqual([
			OPEN,
			{ settled: 9_000n, finalized: true },
			OPEN,
		]);
		await eventually(() => listener.of("onAtRisk")).toEqual([
			{ channelId: dust.channelId, payer: payer.address, unsettled: 1_000n, reason: "uneconomic" },
		]);
		const [entry] = await entries();
		const receipt = await world.chain.client.getTransactionReceipt({ hash: entry?.minedIn?.transactionHash ?? "0x" });
		const paid = (receipt.gasUsed * receipt.effectiveGasPrice * COIN_PRICE) / 10n ** 18n;
		expect(paid).toBeLessThan(9_000n);

		await setGasPrice(world, GWEI);
		await server.engine.settle();
		expect(await onChain(routine)).toEqual({ settled: 5_000n, finalized: false });
		expect(await onChain(dust)).toEqual({ settled: 1_000n, finalized: true });
		await books.balance([routine, atRisk, dust]);
	});

	it("what is due by its age waits for the next run, and is not put off as dust", async () => {
		await server.restart({
			engine: {
				settlement: { ...QUIET, maxAgeSeconds: 3_600, coinPrice: COIN_PRICE },
				watch: false,
			},
		});
		const [channel, dust] = [await owing(server, payer, 5_000n), await owing(server, payer, 100n)];
		server.clock.advance(2 * 3_600_000);
		await setGasPrice(world, 15n * GWEI);
		const before = await server.transactions();
		await server.engine.settle();
		expect(await server.transactions()).toBe(before);
		expect((await server.ledger(channel))?.deferredAt).toBe(0);
		expect((await server.ledger(dust))?.deferredAt).toBeGreaterThan(0);
		await setGasPrice(world, GWEI);
		await server.engine.settle();
		expect([await onChain(channel), await onChain(dust)]).toEqual([{ settled: 5_000n, finalized: false }, OPEN]);
	});
});

describe("a routine settlement on its way when gas rises above what it may bid", () => {
	it("may bid up to what is at risk once the payer asks to close, and brings it in (I9)", async () => {
		await server.restart({
			engine: {
				settlement: { ...QUIET, maxUnsettled: 4_000n, coinPrice: COIN_PRICE },
				watch: { pollMs: 50 },
				hooks: listener.hooks,
				limits: { stuckAfterMs: 1 },
			},
		});
		const channel = await owing(server, payer, 9_000n);
		await rpc(world.chain.client, "evm_setAutomine", [false]);
		const settling = server.engine.settle();
		try {
			await eventually(async () => (await entries()).length).toBe(1);
			// A tenth of what is owed is what a routine settlement may cost.
			expect(BigInt((await entries())[0]?.feeLimit ?? 0)).toBeLessThan(12n * GWEI);
			await rpc(world.chain.client, "anvil_setNextBlockBaseFeePerGas", [`0x${(40n * GWEI).toString(16)}`]);
			await rpc(world.chain.client, "evm_setAutomine", [true]);
			await payer.requestClose(channel);
			await eventually(async () => {
				await setGasPrice(world, 40n * GWEI);
				return onChain(channel);
			}).toEqual({ settled: 9_000n, finalized: false });
		} finally {
			await rpc(world.chain.client, "evm_setAutomine", [true]);
		}
		await settling;
		const [entry, ...others] = await entries();
		expect(others).toEqual([]);
		// What it may cost now is on disk, and is no more than it brings.
		const limit = BigInt(entry?.feeLimit ?? 0);
		expect(limit).toBeGreaterThan(40n * GWEI);
		expect((limit * 58_200n * COIN_PRICE) / 10n ** 18n).toBeLessThanOrEqual(9_000n);
	});
});

describe("a voucher whose signature costs much to check", () => {
	it("is not brought in for more gas than it is worth, and its owner is told", async () => {
		const smart = await createSmartPayer(world, await world.payer({ gas: true }));
		const { address } = smart.payer;
		const channel = await owing(server, smart.payer, 600n);
		// From now on the wallet burns much gas before it says yes.
		const { client } = world.chain;
		const code = await client.getCode({ address });
		await setGasPrice(world, GWEI);
		await rpc(client, "anvil_setCode", [address, wasteful(1_500_000)]);
		await rpc(client, "anvil_setBalance", [address, "0x8ac7230489e80000"]);
		await rpc(client, "anvil_impersonateAccount", [address]);
		const data = encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "requestClose",
			args: [channel.channelId],
		});
		await rpc(client, "eth_sendTransaction", [{ from: address, to: world.escrow, data, gas: "0x30d40" }]);
		await eventually(() => listener.of("onAtRisk")).toMatchObject([{ reason: "uneconomic", unsettled: 600n }]);
		expect(await entries()).toEqual([]);
		expect(await onChain(channel)).toEqual(OPEN);
		await rpc(client, "anvil_setCode", [address, code]);
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 600n, finalized: true });
	});
});

describe("while gas costs more than limits.maxFeePerGas", () => {
	it("what a payer has asked to close waits, and is told of at once", async () => {
		await server.restart({
			engine: {
				settlement: QUIET,
				watch: { pollMs: 50 },
				hooks: listener.hooks,
				limits: { maxFeePerGas: 5n * GWEI },
			},
		});
		const channel = await owing(server, payer, 900n);
		await setGasPrice(world, 40n * GWEI);
		await payer.requestClose(channel);
		await eventually(() => listener.of("onAtRisk")).toMatchObject([{ reason: "uneconomic", unsettled: 900n }]);
		expect(await entries()).toEqual([]);
		await setGasPrice(world, GWEI);
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 900n, finalized: true });
	});
});

describe("an account without gas money", () => {
	it("is said aloud, leaves no records, and holds up no channel once it is funded (I9)", async () => {
		const [atRisk, routine] = [await owing(server, payer, 900n), await owing(server, payer, 5_000n)];
		const fund = (wei: bigint) => rpc(world.chain.client, "anvil_setBalance", [server.payee, `0x${wei.toString(16)}`]);
		await fund(10n);
		await payer.requestClose(atRisk);
		const said = () => server.logs.filter(({ message }) => message.includes("can't pay for their gas"));
		await eventually(() => said().length).toBe(1);
		for (let run = 0; run < 3; run++) await server.engine.settle();
		expect(said()).toMatchObject([{ level: "error", values: { account: server.payee } }]);
		expect(await entries()).toEqual([]);
		await fund(10n ** 19n);
		await server.engine.settle();
		expect(await Promise.all([atRisk, routine].map(onChain))).toEqual([
			{ settled: 900n, finalized: true },
			{ settled: 5_000n, finalized: false },
		]);
	});
});

describe("an application that does not say what a coin is worth", () => {
	it("has nothing settled that can wait, and what may be lost all the same; its last word counts", async () => {
		coinPrice = () => Promise.reject(new Error("no price"));
		const routine = await owing(server, payer, 5_000n);
		const atRisk = await owing(server, payer, 700n);
		await payer.requestClose(atRisk);
		await server.engine.settle();
		expect(await Promise.all([routine, atRisk].map(onChain))).toEqual([OPEN, { settled: 700n, finalized: true }]);
		expect(server.logs.filter(({ message }) => message.includes("coinPrice"))).toMatchObject([{ level: "error" }]);
		coinPrice = () => COIN_PRICE;
		await server.engine.settle();
		expect(await onChain(routine)).toEqual({ settled: 5_000n, finalized: false });
		coinPrice = () => 0n;
		const later = await owing(server, payer, 5_000n);
		await server.engine.settle();
		expect(await onChain(later)).toEqual({ settled: 5_000n, finalized: false });
	});
});

/** A contract wallet that takes every signature for good, after it has burnt `gas`. */
function wasteful(gas: number): `0x${string}` {
	const limit = gas.toString(16).padStart(8, "0");
	const accepted = `1626ba7e${"0".repeat(56)}`;
	return `0x5a5b5a810363${limit}116001577f${accepted}60005260206000f3`;
}

async function entries() {
	const found = [];
	for await (const entry of server.store.outbox({ state: "any" }))
		if (entry.purpose.kind === "retire" || entry.purpose.kind === "settle") found.push(entry);
	return found;
}
