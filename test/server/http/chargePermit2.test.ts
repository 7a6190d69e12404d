import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, it } from "vitest";
import { approveCall } from "../../../src/escrow/calls.ts";
import { isPermit2NonceUsed } from "../../../src/escrow/reads.ts";
import type { Challenge } from "../../../src/protocol/index.ts";
import { CANONICAL_PERMIT2 } from "../../../src/voucher/index.ts";
import { expectOneServed, tenTimes } from "../../support/atOnce.ts";
import {
	approvedPayer,
	approvePermit2,
	chargeByPermit2,
	hideFrom,
	hideLogs,
	type PermitOptions,
	pooled,
	requestOf,
	SOON,
	sendAhead,
	transfersFor,
	withoutMining,
} from "../../support/chargeDrafts.ts";
import {
	CHARGE,
	chargeRoutes,
	costsNothing,
	crashInHandler,
	crashOncePaid,
	expectAnsweredAgain,
	expectDeliveredAfterFailure,
	expectDeliveredOnce,
	expectFirstServed,
	expectPaidByUs,
	type Free,
} from "../../support/chargeStage.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import { useWorld } from "../../support/useWorld.ts";
import {
	type Draft,
	FUNDS,
	type PaidServer,
	type Payer,
	PRICE,
	transactionOf,
	withPayload,
} from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;

const routes = chargeRoutes(CHARGE, { "/order": { ...CHARGE, externalId: "order 7, größer" } });

beforeEach(async () => {
	payer = await approvedPayer(world);
	server = await world.serve({ routes });
});

const stranger = privateKeyToAccount(generatePrivateKey());
const nowSeconds = () => BigInt(Math.floor(server.clock.now() / 1_000));

async function credential(options: PermitOptions = {}, path = "/charge", challenge?: Challenge): Promise<Draft> {
	return chargeByPermit2(world, payer, challenge ?? (await server.challenge(path)), options);
}

/** Nothing moved, no gas was spent, no handler ran. */
const free: Free = (action) => costsNothing({ world, server, payer }, action);

const expectPaidOnce = () => expectPaidByUs({ world, server, payer });

describe("permit2", () => {
	it("a charge by permit2 moves exactly the price, in one transaction of ours, and is served with a receipt for it", async () => {
		const draft = await credential();
		const answer = await server.pay("/charge", draft);
		expectFirstServed(world, draft, answer, transactionOf(answer));
		const receipt = await world.chain.client.getTransactionReceipt({ hash: transactionOf(answer) });
		expect(receipt).toMatchObject({ status: "success", from: server.payee, to: CANONICAL_PERMIT2 });
		await expectPaidOnce();
	});

	it.each(["draft", "eip712"] as const)(
		"a charge by permit2 is taken with the witness spelt as in %s",
		async (form) => {
			expectPaid(await server.pay("/charge", await credential({ form })));
			await expectPaidOnce();
		},
	);

	it("a charge by permit2 whose permit allows more than is requested moves the price alone", async () => {
		const permitted = [{ token: world.token, amount: 5n * PRICE }];
		expectPaid(await server.pay("/charge", await credential({ permitted })));
		await expectPaidOnce();
	});

	it("a charge by permit2 is bound to the merchant's reference, and names it in its receipt", async () => {
		const externalId = "order 7, größer";
		for (const other of ["", "order 8"]) {
			const draft = await credential({ witness: { externalId: other } }, "/order");
			expectRefusal(await free(() => server.pay("/order", draft)), "verification-failed");
		}
		const answer = await server.pay("/order", await credential({}, "/order"));
		expectPaid(answer);
		expect(answer.receipt).toMatchObject({ externalId });
	});

	it("a charge by permit2 without externalId in its witness is one with the empty text", async () => {
		const draft = await credential();
		const { challengeHash } = draft.payload.witness as { challengeHash: string };
		expectPaid(await server.pay("/charge", withPayload(draft, { witness: { challengeHash } })));
	});
});

describe("permit2, refused", () => {
	const other = stranger.address.toLowerCase() as `0x${string}`;
	const cases: readonly (readonly [title: string, make: () => Promise<Draft>])[] = [
		["a signature that is not the source's", () => credential({ signer: stranger })],
		["somebody else's source", () => credential({ source: `did:pkh:eip155:31337:${other}` })],
		["a source on another chain", () => credential({ source: `did:pkh:eip155:1:${payer.address}` })],
		["a source that is no did:pkh", () => credential({ source: `did:key:${payer.address}` })],
		[
			"no source",
			async () => {
				const { source: _, ...draft } = await credential();
				return draft;
			},
		],
		["a signature of zeros", async () => withPayload(await credential(), { signature: `0x${"00".repeat(65)}` })],
		["a deadline that has passed", () => credential({ deadline: nowSeconds() - 1n })],
		["a deadline about to pass", () => credential({ deadline: nowSeconds() + 2n })],
		["another challenge's hash", () => credential({ witness: { challengeHash: `0x${"33".repeat(32)}` } })],
		["an externalId where the request has none", () => credential({ witness: { externalId: "o-1" } })],
		["another token", () => credential({ permitted: [{ token: world.escrow, amount: PRICE }] })],
		["another recipient", () => credential({ transferDetails: [{ to: other, requestedAmount: PRICE }] })],
		["a lower amount", () => credential({ transferDetails: [{ to: server.payee, requestedAmount: PRICE - 1n }] })],
		["a higher amount", () => credential({ transferDetails: [{ to: server.payee, requestedAmount: PRICE + 1n }] })],
		["less permitted than requested", () => credential({ permitted: [{ token: world.token, amount: PRICE - 1n }] })],
		["another spender", () => credential({ spender: other })],
		[
			"a nonce that was not signed",
			async () => {
				const draft = await credential();
				return withPayload(draft, { permit: { ...(draft.payload.permit as object), nonce: "7" } });
			},
		],
		[
			"one transfer more than is asked for",
			() => {
				const part = { to: server.payee, requestedAmount: PRICE };
				return credential({ transferDetails: [part, { to: other, requestedAmount: 1n }] });
			},
		],
	];

	it.each(cases)("a charge by permit2 that is refused costs nothing: %s", async (_title, make) => {
		const draft = await make();
		const answer = await free(() => server.pay("/charge", draft));
		expectRefusal(answer, "verification-failed");
		expect(answer.problem?.detail).toMatch(/\w{3,}/);
	});

	it("a charge by permit2 that is refused costs nothing: fewer transfers than permitted entries", async () => {
		const part = { token: world.token, amount: PRICE };
		const draft = await credential({
			permitted: [part, part],
			transferDetails: transfersFor(requestOf(await server.challenge("/charge"))),
		});
		expectRefusal(await free(() => server.pay("/charge", draft)), "malformed-credential");
	});

	it.each(["permit", "transferDetails", "witness", "signature"])(
		"a payload by permit2 is refused when any member is missing or wrong: %s",
		async (member) => {
			const draft = await credential();
			for (const value of [undefined, null, 7, "0x", [], {}]) {
				const spoilt = withPayload(draft, { [member]: value });
				expectRefusal(await free(() => server.pay("/charge", spoilt)), "malformed-credential");
			}
			expectPaid(await server.pay("/charge", draft));
		},
	);

	it("a charge by permit2 of a payer without funds, or without approval of Permit2, is found out before any gas", async () => {
		payer = await approvedPayer(world, { funds: PRICE - 1n });
		const poor = await free(async () => server.pay("/charge", await credential()));
		expectRefusal(poor, "verification-failed");
		expect(poor.problem).toMatchObject({ amount: String(PRICE), balance: String(PRICE - 1n) });
		for (const allowance of [0n, PRICE - 1n]) {
			payer = await world.payer({ gas: true });
			if (allowance > 0n) await approvePermit2(world, payer, allowance);
			const answer = await free(async () => server.pay("/charge", await credential()));
			expectRefusal(answer, "verification-failed");
			expect(answer.problem).toMatchObject({ amount: String(PRICE), allowance: String(allowance) });
		}
	});

	it("for an expired challenge", async () => {
		const draft = await credential({ deadline: nowSeconds() + 10_000n });
		server.clock.advance(301_000);
		expectRefusal(await free(() => server.pay("/charge", draft)), "invalid-challenge");
	});

	it("on HEAD, before any money moves (D11)", async () => {
		const draft = await credential();
		expect((await free(() => server.pay("/charge", draft, { method: "HEAD" }))).status).toBe(402);
		expectPaid(await server.pay("/charge", draft));
	});
});

describe("permit2, again (I4)", () => {
	it("a charge by permit2 is delivered once: after a restart and a clean-up, too", async () => {
		const draft = await credential({ deadline: 2n ** 40n });
		await expectDeliveredOnce(server, draft, free);
		await expectPaidOnce();
	});

	it("a charge by permit2 sent ten times at once is one transaction and one delivery", async () => {
		const draft = await credential();
		expectOneServed(await tenTimes(server, "/charge", draft), "invalid-challenge");
		expect(server.calls("/charge")).toBe(1);
		await expectPaidOnce();
	});

	it("a charge by permit2 whose nonce was used meanwhile is refused before any gas, and another nonce works", async () => {
		expectPaid(await server.pay("/charge", await credential({ nonce: 7n })));
		const challenge = await server.challenge("/charge");
		for (const restart of [false, true]) {
			if (restart) await server.restart();
			const again = await credential({ nonce: 7n }, "/charge", challenge);
			expectRefusal(await free(() => server.pay("/charge", again)), "verification-failed");
		}
		server.clock.advance(400_000);
		await server.store.prune(server.clock.now());
		const late = await free(async () => server.pay("/charge", await credential({ nonce: 7n })));
		expectRefusal(late, "verification-failed");
		expect(late.problem).toMatchObject({ nonce: "7" });
		expectPaid(await server.pay("/charge", await credential({ nonce: 8n })));
	});

	it("of ten challenges at once that one nonce is to pay, it pays one, and no gas is spent on the others", async () => {
		const drafts = await Promise.all(Array.from({ length: 10 }, () => credential({ nonce: 7n })));
		const answers = await Promise.all(drafts.map((draft) => server.pay("/charge", draft)));
		expectOneServed(answers, "verification-failed");
		expect(server.calls("/charge")).toBe(1);
		await expectPaidOnce();
	});

	it("with an Idempotency-Key is answered again, not charged again, and by nobody else's credential (I3, I6)", async () => {
		const draft = await credential();
		await expectAnsweredAgain(server, draft, credential, free);
		const forged = await credential({ signer: stranger });
		expectRefusal(await free(() => server.pay("/charge", forged, { key: "k" })), "verification-failed");
		expectRefusal(await free(() => server.pay("/charge", draft, { key: "other" })), "invalid-challenge");
		await expectPaidOnce();
	});

	it("of both signed types for one challenge one moves the money, once", async () => {
		const challenge = await server.challenge("/charge");
		const drafts = [
			await credential({}, "/charge", challenge),
			await payer.charge(challenge, server.payee, PRICE),
			await credential({}, "/charge", challenge),
		];
		const answers = await Promise.all(drafts.map((draft) => server.pay("/charge", draft)));
		expect(answers.map(({ status }) => status).sort()).toEqual([200, 402, 402]);
		expect(server.calls("/charge")).toBe(1);
		await expectPaidOnce();
	});
});

describe("permit2, on its way", () => {
	it("a charge by permit2 whose transaction reverts once mined is refused, and its nonce is free again", async () => {
		const draft = await credential({ nonce: 9n });
		const answer = await withoutMining(world, async (mine) => {
			const paying = server.pay("/charge", draft);
			await expect.poll(() => pooled(world), SOON).toBe(1);
			// First in the block, by its fee: the permit was good when it was simulated.
			await sendAhead(world, payer, approveCall(world.token, CANONICAL_PERMIT2, 0n));
			await mine();
			return paying;
		});
		expectRefusal(answer, "verification-failed");
		expect(await world.balance(payer.address)).toBe(FUNDS);
		expect(server.calls("/charge")).toBe(0);
		await approvePermit2(world, payer);
		expectPaid(await server.pay("/charge", await credential({ nonce: 9n })));
		expect(await world.balance(server.payee)).toBe(PRICE);
		expectRefusal(await free(() => server.pay("/charge", draft)), "verification-failed");
	});

	it("a charge is served only when every expected transfer is among the transaction's logs", async () => {
		const draft = await credential();
		hideFrom(server);
		const paying = server.pay("/charge", draft);
		await expect.poll(() => world.balance(server.payee), SOON).toBe(PRICE);
		const block = await world.chain.client.getBlock();
		await hideLogs(world, server, block.transactions[0] ?? "0x");
		expectRefusal(await paying, "verification-failed");
		expect(server.calls("/charge")).toBe(0);
	});

	it("a charge by permit2 that is not mined in time is 503, and the same credential is delivered later, once", async () => {
		await server.restart({ engine: { limits: { transactionTimeoutMs: 200 } }, routes });
		const draft = await credential();
		hideFrom(server);
		expectRefusal(await server.pay("/charge", draft), "service-unavailable");
		server.clock.advance(3_600_000);
		server.rpc.up();
		await expect.poll(async () => (await server.pay("/charge", draft)).status, SOON).toBe(200);
		expectRefusal(await free(() => server.pay("/charge", draft)), "invalid-challenge");
		await expectPaidOnce();
	});

	it("a charge by permit2 whose handler failed is delivered later to the same credential, once (I7)", async () => {
		const draft = await credential({}, "/once");
		await expectDeliveredAfterFailure(server, draft, expectPaidOnce, free);
	});

	it("a charge by permit2 that the server crashed on is delivered after its restart, once (I5, I7)", async () => {
		const draft = await credential();
		await crashInHandler(server, "/charge", draft);
		expectPaid(await server.pay("/charge", draft));
		expectRefusal(await free(() => server.pay("/charge", draft)), "invalid-challenge");
		await expectPaidOnce();
	});

	it("a charge by permit2 that was recorded before a crash is taken up by the next start (I4, I5)", async () => {
		const draft = await credential({ nonce: 3n });
		hideFrom(server);
		await crashOncePaid({ world, server, payer }, draft);
		await server.restart();
		const another = await credential({ nonce: 3n });
		expectRefusal(await free(() => server.pay("/charge", another)), "verification-failed");
		expectPaid(await server.pay("/charge", draft));
		expect(await isPermit2NonceUsed(world.chain.client, CANONICAL_PERMIT2, payer.address, 3n)).toBe(true);
		await expectPaidOnce();
	});
});
