/** Streams that somebody else than their two sides ends. */
import { expect, it } from "vitest";
import type { Meter, Piece } from "../../../src/server/index.ts";
import { MeteredPayer, MeteredSite } from "../../support/meteredStage.ts";
import { readEvents } from "../../support/streamReader.ts";
import { useWorld } from "../../support/useWorld.ts";

const world = useWorld();

async function* tokens(meter: Meter): AsyncGenerator<Piece> {
	for (let n = 1; ; n++) {
		await meter.charge();
		yield { id: String(n), data: n };
	}
}

const site = new MeteredSite({
	"/tokens": { metered: { blockUnits: 4, stallMs: 120_000 }, serve: (meter) => tokens(meter) },
});

it("a server that closes ends the stream that waits for a voucher, and keeps what it was paid", async () => {
	const server = await world.serve({ routes: site.routes, engine: { limits: { drainDeadlineMs: 50 } } });
	const payer = await MeteredPayer.open(await world.payer(), server, server.url, 10_000n);
	const reader = await payer.read("/tokens", 10n);
	let closing: Promise<void> | undefined;
	const reading = readEvents(reader, async () => {
		closing ??= server.closeApp();
	});
	const { pieces, isBroken } = await reading;
	expect([pieces.length, isBroken]).toEqual([10, true]);
	await closing;
	await payer.expectLedger(10n, 10n);
});

it("a close that the payer requests on chain ends the stream that waits for a voucher (I9)", async () => {
	const server = await world.serve({ routes: site.routes, engine: { watch: { pollMs: 50 } } });
	const owner = await world.payer({ gas: true });
	const payer = await MeteredPayer.open(owner, server, server.url, 10_000n);
	const reader = await payer.read("/tokens", 10n);
	const { pieces, isBroken } = await readEvents(reader, async () => {
		await owner.requestClose(payer.channel);
	});
	expect([pieces.length, isBroken]).toEqual([10, true]);
	await payer.expectLedger(10n, 10n);
});
