import { describe, expect, it } from "vitest";
import type { SettlementPolicy } from "../../../src/server/index.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import { createSmartPayer } from "../../support/sessionDrafts.ts";
import { useWorld } from "../../support/useWorld.ts";
import { Clock, DEPOSIT, type PaidServer, PRICE, type TestChannel } from "../../support/world.ts";
import { eventually, listen, openBooks, owing, owingChannels, QUIET } from "./support.ts";

const world = useWorld();
const HOUR_MS = 3_600_000;

async function serve(settlement: SettlementPolicy, clock = new Clock()) {
	const listener = listen();
	const server = await world.serve({
		clock,
		engine: { settlement: { ...QUIET, ...settlement }, hooks: listener.hooks },
	});
	return { server, listener, payer: await world.payer() };
}

const onChain = async (channel: TestChannel) => {
	const found = await world.onChain(channel);
	return found && { settled: found.settled, finalized: found.finalized };
};
const OPEN = { settled: 0n, finalized: false };

/** Nothing is sent by one run. */
async function expectIdle(server: PaidServer): Promise<void> {
	const before = await server.transactions();
	await server.engine.settle();
	expect(await server.transactions()).toBe(before);
}

describe("what has been owed for maxAgeSeconds", () => {
	it("is settled, counted from the first unit that is owed", async () => {
		const { server, payer } = await serve({ maxAgeSeconds: 3_600 });
		const books = await openBooks(world, server, [payer]);
		const channel = await owing(server, payer, 500n);
		server.clock.advance(HOUR_MS / 2);
		await owing(server, payer, 700n, channel);
		await expectIdle(server);
		server.clock.advance(HOUR_MS / 2 + 60_000);
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 700n, finalized: false });
		await books.balance([channel]);
	});

	it("is settled at a tenth of that where a contract signed, and at a tenth of maxUnsettled", async () => {
		const { server, payer } = await serve({ maxAgeSeconds: 36_000, maxUnsettled: 10_000n });
		const smart = await createSmartPayer(world, await world.payer({ gas: true }));
		const [byKey, byContract] = [await owing(server, payer, 999n), await owing(server, smart.payer, 999n)];
		await expectIdle(server);
		await owing(server, smart.payer, 1_000n, byContract);
		await server.engine.settle();
		expect(await onChain(byContract)).toEqual({ settled: 1_000n, finalized: false });
		await owing(server, smart.payer, 1_100n, byContract);
		server.clock.advance(HOUR_MS + 60_000);
		await server.engine.settle();
		expect(await onChain(byContract)).toEqual({ settled: 1_100n, finalized: false });
		expect(await onChain(byKey)).toEqual(OPEN);
	});
});

describe("a channel without a request for idleSeconds", () => {
	it("is closed with its highest voucher, the rest goes back, and the client learns of it when it asks to close", async () => {
		const { server, payer, listener } = await serve({ idleSeconds: 3_600 });
		const books = await openBooks(world, server, [payer]);
		const funds = await world.balance(payer.address);
		const channel = await owing(server, payer, 700n);
		server.clock.advance(HOUR_MS - 60_000);
		await expectIdle(server);
		server.clock.advance(2 * 60_000);
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 700n, finalized: true });
		expect(await world.balance(payer.address)).toBe(funds - 700n);
		await books.balance([channel]);
		const { closeTxHash } = (await server.ledger(channel)) ?? {};
		await eventually(() => listener.of("onSettled")).toMatchObject([
			{ settled: 700n, delta: 700n, txHash: closeTxHash },
		]);
		await eventually(() => listener.of("onChannelClosed")).toMatchObject([
			{ channelId: channel.channelId, settledOnChain: 700n, txHash: closeTxHash },
		]);
		const answer = await server.pay("/session", await payer.close(await server.challenge("/session"), channel, PRICE));
		expectPaid(answer);
		expect(answer.receipt).toMatchObject({ txHash: closeTxHash });
		const voucher = await payer.voucher(await server.challenge("/session"), channel, 800n);
		expectRefusal(await server.pay("/session", voucher), "session/channel-finalized");
	});

	it("is closed with others in one transaction; one that was closed past the server stops none of them", async () => {
		const { server, payer, listener } = await serve({ idleSeconds: 3_600 });
		const books = await openBooks(world, server, [payer]);
		const [gone, ...others] = (await owingChannels(server, payer, [500n, 600n, 700n])) as [
			TestChannel,
			...TestChannel[],
		];
		await world.closeOnChain(server.account, gone, PRICE, await payer.sign(gone, PRICE));
		server.clock.advance(HOUR_MS + 60_000);
		const before = await server.transactions();
		await server.engine.settle();
		expect(await server.transactions()).toBe(before + 1);
		expect(await Promise.all(others.map(onChain))).toEqual([
			{ settled: 600n, finalized: true },
			{ settled: 700n, finalized: true },
		]);
		await books.balance([gone, ...others]);
		await eventually(() => listener.of("onSettlementFailed")).toMatchObject([
			{ channelId: gone.channelId, reason: "ChannelFinalized" },
		]);
	});

	it("is only settled where the policy says so", async () => {
		const { server, payer } = await serve({ idleSeconds: 3_600, onIdle: "settle" });
		const channel = await owing(server, payer, 700n);
		server.clock.advance(HOUR_MS + 60_000);
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 700n, finalized: false });
		await owing(server, payer, 800n, channel);
	});

	it("that owes nothing costs no gas: it is looked at again after as long", async () => {
		const { server, payer } = await serve({ idleSeconds: 3_600 });
		const channel = await server.open(payer);
		server.clock.advance(HOUR_MS + 60_000);
		const lookedAt = server.clock.now();
		await expectIdle(server);
		expect((await server.ledger(channel))?.deferredAt).toBeGreaterThanOrEqual(lookedAt);
		const before = await server.ledger(channel);
		await expectIdle(server);
		expect(await server.ledger(channel)).toEqual(before);
		await owing(server, payer, 500n, channel);
	});

	it("that serves a request meanwhile is not closed, and neither is one whose request still runs", async () => {
		const { server, payer } = await serve({ idleSeconds: 3_600 });
		const channel = await owing(server, payer, 500n);
		const held = server.hold("/session");
		const running = server.pay("/session", await payer.voucher(await server.challenge("/session"), channel, 600n));
		await held.entered;
		server.clock.advance(2 * HOUR_MS);
		await expectIdle(server);
		held.release();
		expectPaid(await running);
		await expectIdle(server);
		expect(await onChain(channel)).toEqual(OPEN);
	});
});

describe("dust", () => {
	it("is never sent by itself, and does not come up again before another such time has passed", async () => {
		const { server, payer } = await serve({ maxAgeSeconds: 3_600, minValue: 200n });
		const dust = await owing(server, payer, 199n);
		const enough = await owing(server, payer, 200n);
		server.clock.advance(HOUR_MS + 60_000);
		const lookedAt = server.clock.now();
		await server.engine.settle();
		expect([await onChain(dust), await onChain(enough)]).toEqual([OPEN, { settled: 200n, finalized: false }]);
		expect((await server.ledger(dust))?.deferredAt).toBeGreaterThanOrEqual(lookedAt);
		expect(server.logs.filter(({ message }) => message.includes("left for later"))).toMatchObject([
			{ level: "info", values: { channels: 1, unsettled: "199" } },
		]);
		await owing(server, payer, 300n, dust);
		await expectIdle(server);
		server.clock.advance(HOUR_MS + 60_000);
		await server.engine.settle();
		expect(await onChain(dust)).toEqual({ settled: 300n, finalized: false });
	});
});

describe("a time window", () => {
	it("holds back what can wait until it opens", async () => {
		const now = new Date();
		const minutes = now.getUTCHours() * 60 + now.getUTCMinutes();
		const time = (minute: number) => {
			const inDay = ((minute % 1_440) + 1_440) % 1_440;
			return `${String(Math.floor(inDay / 60)).padStart(2, "0")}:${String(inDay % 60).padStart(2, "0")}`;
		};
		const windows = [{ from: time(minutes + 120), to: time(minutes + 180) }];
		const { server, payer } = await serve({ maxUnsettled: 500n, windows });
		const channel = await owing(server, payer, 500n);
		await expectIdle(server);
		server.clock.advance(2.5 * HOUR_MS);
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 500n, finalized: false });
	});
});

describe("nothing is settled by itself", () => {
	it("where the option says so, nor more than once for the same voucher", async () => {
		const { server, payer } = await serve({ maxUnsettled: 500n });
		const channel = await owing(server, payer, DEPOSIT);
		await Promise.all([server.engine.settle(), server.engine.settle(), server.engine.settle()]);
		expect(await onChain(channel)).toEqual({ settled: DEPOSIT, finalized: false });
		await expectIdle(server);
		const off = await world.serve({ engine: { settlement: false } });
		const other = await owing(off, await world.payer(), DEPOSIT);
		off.clock.advance(30 * 24 * HOUR_MS);
		await expectIdle(off);
		expect(await onChain(other)).toEqual(OPEN);
	});
});
