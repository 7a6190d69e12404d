import { beforeAll, describe, expect, it } from "vitest";
import { openCall } from "../../../src/escrow/calls.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import {
	approvedPayer,
	merged,
	openByPermit2,
	rpc,
	StillClock,
	topUpByAuthorization,
	topUpByHash,
	topUpByPermit2,
	topUpOnChain,
} from "../../support/sessionDrafts.ts";
import { MORE } from "../../support/sessionStage.ts";
import { useWorld } from "../../support/useWorld.ts";
import { DEPOSIT, type Draft, type PaidServer, type Payer, PRICE } from "../../support/world.ts";

const world = useWorld();
let payer: Payer;

beforeAll(async () => {
	payer = await approvedPayer(world);
});

const mine = (blocks: number) => rpc(world.chain.client, "anvil_mine", [`0x${blocks.toString(16)}`]);

describe("maxVouchersPerSecond", () => {
	const limited = () => world.serve({ engine: { limits: { maxVouchersPerSecond: 3 } }, clock: new StillClock() });

	it("refuses a channel's vouchers beyond it with 429 and Retry-After, changes nothing, and lets the next second pay", async () => {
		const server = await limited();
		const [channel, other] = [await server.open(payer), await server.open(payer)];
		const one = await server.challenge("/session");
		const pay = async (n: bigint, method = "GET") =>
			server.pay("/session", await payer.voucher(one, channel, n * PRICE), { method });
		for (const n of [1n, 2n]) expectPaid(await pay(n));
		expectPaid(await pay(3n, "HEAD"));
		for (const method of ["GET", "HEAD"]) {
			const answer = await unchanged(server, [channel], () => pay(4n, method));
			expect(answer.status).toBe(429);
			expect(answer.header("retry-after")).toMatch(/^[1-9]\d*$/);
			if (method === "GET") expectRefusal(answer, "too-many-requests");
		}
		expectPaid(await server.pay("/session", await payer.voucher(await server.challenge("/session"), other, PRICE)));
		server.clock.advance(1_000);
		expectPaid(await pay(8n));
	});

	it("counts the voucher of an open that is sent again, too", async () => {
		const server = await limited();
		const channel = payer.channel(server.payee);
		const draft = await payer.open(await server.challenge("/session"), channel, { deposit: DEPOSIT });
		for (let n = 0; n < 4; n++) expectPaid(await server.pay("/session", draft));
		expectRefusal(await server.pay("/session", draft), "too-many-requests");
	});

	it("counts only vouchers whose signature is good: a stranger can't use up a channel's rate (I3)", async () => {
		const server = await limited();
		const channel = await server.open(payer);
		const one = await server.challenge("/session");
		const stranger = await world.payer();
		for (let n = 1n; n <= 10n; n++) {
			const forged = await payer.voucher(one, channel, n * PRICE, { signer: stranger.account });
			expectRefusal(await server.pay("/session", forged), "session/signer-mismatch");
		}
		expectPaid(await server.pay("/session", await payer.voucher(one, channel, PRICE)));
	});

	it("holds for vouchers with a deposit, before it costs gas", async () => {
		const server = await limited();
		const channel = await server.open(payer);
		const one = await server.challenge("/session");
		for (let n = 1n; n <= 3n; n++)
			expectPaid(await server.pay("/session", await payer.voucher(one, channel, n * PRICE)));
		const draft = merged(
			await payer.voucher(one, channel, DEPOSIT + MORE),
			await topUpByAuthorization(payer, one, channel, MORE),
		);
		const answer = await unchanged(server, [channel], () => server.pay("/session", draft));
		expectRefusal(answer, "too-many-requests");
	});

	it("is off by default", async () => {
		const server = await world.serve();
		const channel = await server.open(payer);
		const one = await server.challenge("/session");
		for (let n = 1n; n <= 40n; n++)
			expectPaid(await server.pay("/session", await payer.voucher(one, channel, n * PRICE)));
	});
});

describe("an open and a top-up are credited only when their transaction is as deep as option confirmations asks", () => {
	const patient = () => world.serve({ engine: { limits: { confirmations: 3, transactionTimeoutMs: 150 } } });

	/** Refused until the transaction lies three blocks deep, then taken; without a second transaction. */
	async function waitsForDepth(server: PaidServer, draft: Draft): Promise<void> {
		const answer = await server.pay("/session", draft);
		expectRefusal(answer, "service-unavailable");
		const sent = await server.transactions();
		await mine(1);
		expectRefusal(await server.pay("/session", draft), "service-unavailable");
		await mine(1);
		expectPaid(await server.pay("/session", draft));
		expect(await server.transactions()).toBe(sent);
	}

	it("by hash", async () => {
		const server = await patient();
		const channel = payer.channel(server.payee);
		const opened = await payer.openOnChain(channel, DEPOSIT);
		await waitsForDepth(server, await payer.openByHash(await server.challenge("/session"), channel, opened));
		const hash = await topUpOnChain(payer, channel, MORE);
		await waitsForDepth(server, topUpByHash(payer, await server.challenge("/session"), channel, hash, MORE));
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT + MORE });
	});

	it("submitted by us", async () => {
		const server = await patient();
		for (const kind of ["authorization", "permit2"]) {
			const channel = payer.channel(server.payee);
			const one = await server.challenge("/session");
			const options = { deposit: DEPOSIT };
			await waitsForDepth(
				server,
				kind === "permit2"
					? await openByPermit2(payer, one, channel, options)
					: await payer.open(one, channel, options),
			);
			const topUp = kind === "permit2" ? topUpByPermit2 : topUpByAuthorization;
			await waitsForDepth(server, await topUp(payer, one, channel, MORE));
			expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT + MORE });
		}
	});

	it("also where the server comes upon them by itself: an adopted channel, a top-up that nobody told it of (D2, D10)", async () => {
		const server = await patient();
		const channel = payer.channel(server.payee);
		await payer.openOnChain(channel, DEPOSIT);
		const pay = async (amount: bigint) =>
			server.pay("/session", await payer.voucher(await server.challenge("/session"), channel, amount));
		expectRefusal(await pay(PRICE), "service-unavailable");
		await mine(2);
		expectPaid(await pay(PRICE));
		await topUpOnChain(payer, channel, MORE);
		server.clock.advance(15_001);
		expectRefusal(await pay(DEPOSIT + 1n), "session/amount-exceeds-deposit");
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT });
		await mine(2);
		server.clock.advance(15_001);
		expectPaid(await pay(DEPOSIT + MORE));
		// What may cost us money is known at once.
		await payer.requestClose(channel);
		server.clock.advance(15_001);
		expectRefusal(await pay(DEPOSIT + MORE), "session/channel-closing");
	});

	it("but a transaction that reverted is refused at once, however deep it has to be", async () => {
		const server = await patient();
		const poor = await world.payer({ gas: true, funds: 0n });
		const channel = poor.channel(server.payee);
		const hash = await poor.sendBlind(openCall(channel.escrow, { ...channel, deposit: DEPOSIT }));
		const draft = await poor.openByHash(await server.challenge("/session"), channel, hash);
		expectRefusal(await server.pay("/session", draft), "session/transaction-reverted");
	});
});
