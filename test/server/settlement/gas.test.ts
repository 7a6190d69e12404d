import { beforeEach, describe, expect, it } from "vitest";
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

async function entries() {
	const found = [];
	for await (const entry of server.store.outbox({ state: "any" }))
		if (entry.purpose.kind === "retire" || entry.purpose.kind === "settle") found.push(entry);
	return found;
}
