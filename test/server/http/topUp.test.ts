import { randomBytes } from "node:crypto";
import type { Hex } from "viem";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { approveCall, topUpCall, topUpWithAuthorizationCall, topUpWithPermit2Call } from "../../../src/escrow/calls.ts";
import { parseSessionPayload, receiptFromJson } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import {
	approvedPayer,
	createSmartPayer,
	topUpByAuthorization,
	topUpByHash,
	topUpOnChain,
} from "../../support/sessionDrafts.ts";
import { KINDS, type Kind, MORE, topUpBy } from "../../support/sessionStage.ts";
import { useWorld } from "../../support/useWorld.ts";
import {
	DEPOSIT,
	type Draft,
	encode,
	type PaidServer,
	type Payer,
	PRICE,
	type TestChannel,
	transactionOf,
} from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;
let channel: TestChannel;

beforeAll(async () => {
	server = await world.serve();
	payer = await approvedPayer(world);
});
beforeEach(async () => {
	channel = await server.open(payer);
});

const challenge = () => server.challenge("/session");

const signedTopUp = async (kind: Kind, amount = MORE) => topUpBy[kind](payer, await challenge(), channel, amount);

async function expectToppedUp(deposit: bigint): Promise<void> {
	expect(await world.onChain(channel)).toMatchObject({ deposit });
	expect(await server.ledger(channel)).toMatchObject({ deposit });
}

/** The call that the server would send, for a stranger to be first with. */
function callOf({ payload }: Draft) {
	const parsed = parseSessionPayload(payload);
	if (parsed.action !== "topUp" || parsed.type === "hash") throw new Error("nothing is signed here");
	const { channelId, signature } = parsed;
	if (parsed.type === "authorization") {
		const signed = { ...parsed.authorization, signature };
		return topUpWithAuthorizationCall(channel.escrow, channelId, parsed.salt, signed);
	}
	const { from, permitted, nonce, deadline } = parsed.authorization;
	return topUpWithPermit2Call(channel.escrow, channelId, {
		from,
		amount: permitted.amount,
		nonce,
		deadline,
		signature,
	});
}

describe("a top-up that the server sends", () => {
	const titles: Record<Kind, string> = {
		authorization: "a top-up by authorization adds to the deposit, in one transaction of ours",
		permit2: "a top-up by Permit2 adds to the deposit, in one transaction of ours",
	};
	for (const kind of KINDS) {
		it(`${titles[kind]}`, async () => {
			const [transactions, calls] = [await server.transactions(), server.calls()];
			const draft = await signedTopUp(kind);
			const answer = await server.pay("/session", draft);
			expectPaid(answer);
			expect(receiptFromJson(answer.json)).toEqual(answer.receipt);
			expect(answer.receipt).toMatchObject({
				channelId: channel.channelId,
				challengeId: draft.challenge.id,
				acceptedCumulative: 0n,
				spent: 0n,
				txHash: expect.stringMatching(/^0x[0-9a-f]{64}$/),
			});
			expect([await server.transactions(), server.calls()]).toEqual([transactions + 1, calls]);
			await expectToppedUp(DEPOSIT + MORE);
			expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, DEPOSIT + MORE)));
		});

		it(`by ${kind}, sent again because its answer was lost, also after a restart, is 200 again without a second transaction (I4)`, async () => {
			const draft = await signedTopUp(kind);
			const first = await server.pay("/session", draft);
			expectPaid(first);
			await unchanged(server, [channel], async () => {
				const again = await server.pay("/session", draft);
				expectPaid(again);
				expect(transactionOf(again)).toBe(transactionOf(first));
				await server.restart();
				expect(transactionOf(await server.pay("/session", draft))).toBe(transactionOf(first));
				// Also under a challenge of its own: the deposit is the same.
				const fresh = { ...draft, challenge: await challenge() };
				expect(transactionOf(await server.pay("/session", fresh))).toBe(transactionOf(first));
			});
			await expectToppedUp(DEPOSIT + MORE);
		});

		it(`by ${kind}, whose call a stranger copied and sent first, is credited all the same (D12)`, async () => {
			const draft = await signedTopUp(kind);
			const hash = await payer.sendBlind(callOf(draft));
			await server.restart();
			const before = await server.transactions();
			const answer = await server.pay("/session", draft);
			expectPaid(answer);
			expect(transactionOf(answer)).toBe(hash);
			expect(await server.transactions()).toBe(before);
			await expectToppedUp(DEPOSIT + MORE);
			const second = await signedTopUp(kind);
			expectPaid(await server.pay("/session", second));
			await expectToppedUp(DEPOSIT + 2n * MORE);
		});
	}

	it("by a third party adds to the deposit, and only adds (draft: Relayed Profile)", async () => {
		const friend = await world.payer();
		const draft = await topUpByAuthorization(friend, await challenge(), channel, MORE);
		expectPaid(await server.pay("/session", draft));
		await expectToppedUp(DEPOSIT + MORE);
		expect(await world.balance(friend.address)).toBe(1_000_000n - MORE);
		const own = await payer.voucher(await challenge(), channel, PRICE, { signer: friend.account });
		expectRefusal(await server.pay("/session", own), "session/signer-mismatch");
	});

	it("of the payer cancels the close that it has requested; a third party's leaves it pending (D14, D15)", async () => {
		await payer.requestClose(channel);
		server.clock.advance(15_001);
		const friend = await world.payer();
		const foreign = await topUpByAuthorization(friend, await challenge(), channel, MORE);
		expectPaid(await server.pay("/session", foreign));
		const pays = async () => server.pay("/session", await payer.voucher(await challenge(), channel, PRICE));
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT + MORE });
		expect((await server.ledger(channel))?.closeRequestedAt).toBeGreaterThan(0);
		expectRefusal(await pays(), "session/channel-closing");
		expectPaid(await server.pay("/session", await signedTopUp("authorization")));
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT + 2n * MORE, closeRequestedAt: 0 });
		expectPaid(await pays());
	});

	it("on HEAD, too, is management", async () => {
		const calls = server.calls();
		expectPaid(await server.pay("/session", await signedTopUp("permit2"), { method: "HEAD" }));
		expect(server.calls()).toBe(calls);
		await expectToppedUp(DEPOSIT + MORE);
	});

	it("below minSponsoredDeposit is refused before any gas", async () => {
		const strict = await world.serve({ engine: { limits: { minSponsoredDeposit: 500n } } });
		const own = await strict.open(payer);
		const low = await topUpByAuthorization(payer, await strict.challenge("/session"), own, 499n);
		const answer = await unchanged(strict, [own], () => strict.pay("/session", low));
		expectRefusal(answer, "session/insufficient-balance");
		expect(answer.problem).toMatchObject({ additionalDeposit: "499", required: "500" });
		expectPaid(
			await strict.pay("/session", await topUpByAuthorization(payer, await strict.challenge("/session"), own, 500n)),
		);
	});

	it("that would lift the deposit to 2^128 is refused before any gas (I1)", async () => {
		const draft = await signedTopUp("authorization", 2n ** 128n - DEPOSIT);
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", draft)), "bad-request");
	});

	it("of a type that the challenge does not list is refused", async () => {
		const frugal = await world.serve({ engine: { feePayer: false } });
		const own = payer.channel(frugal.payee);
		const hash = await payer.openOnChain(own, DEPOSIT);
		expectPaid(await frugal.pay("/session", await payer.openByHash(await frugal.challenge("/session"), own, hash)));
		const draft = await topUpByAuthorization(payer, await frugal.challenge("/session"), own, MORE);
		expectRefusal(await unchanged(frugal, [own], () => frugal.pay("/session", draft)), "method-unsupported");
	});

	it("under a challenge that another channel has answered is refused before any gas (D9)", async () => {
		const other = await server.open(payer);
		const one = await challenge();
		expectPaid(await server.pay("/session", await payer.voucher(one, other, PRICE)));
		const draft = await topUpByAuthorization(payer, one, channel, MORE);
		const answer = await unchanged(server, [channel, other], () => server.pay("/session", draft));
		expectRefusal(answer, "session/challenge-not-found");
	});
});

describe("a top-up by hash", () => {
	it("a top-up by hash sets the deposit to the escrow's value, and vouchers up to it are taken (D12)", async () => {
		const hash = await topUpOnChain(payer, channel, MORE);
		// Somebody else's top-up that nobody has told us of counts as well: the deposit is what the escrow says.
		await topUpOnChain(payer, channel, 7n);
		const before = await server.transactions();
		const answer = await server.pay("/session", topUpByHash(payer, await challenge(), channel, hash, MORE));
		expectPaid(answer);
		expect(transactionOf(answer)).toBe(hash);
		expect(await server.transactions()).toBe(before);
		await expectToppedUp(DEPOSIT + MORE + 7n);
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, DEPOSIT + MORE + 7n)));
	});

	it("sent again, also after a restart, is 200 again and credited once (I4)", async () => {
		const hash = await topUpOnChain(payer, channel, MORE);
		const draft = topUpByHash(payer, await challenge(), channel, hash, MORE);
		expectPaid(await server.pay("/session", draft));
		await unchanged(server, [], async () => {
			expectPaid(await server.pay("/session", draft));
			await server.restart();
			expectPaid(await server.pay("/session", draft));
			expectPaid(await server.pay("/session", topUpByHash(payer, await challenge(), channel, hash, MORE)));
		});
		await expectToppedUp(DEPOSIT + MORE);
		const lines = [];
		for await (const { kind, channelId } of server.store.audit())
			if (kind === "topped-up" && channelId === channel.channelId) lines.push(kind);
		expect(lines).toEqual(["topped-up"]);
	});

	it("a top-up by hash needs a source, and the funder's (D8)", async () => {
		const hash = await topUpOnChain(payer, channel, MORE);
		const { source, ...anonymous } = topUpByHash(payer, await challenge(), channel, hash, MORE);
		const { chainId } = world.chain;
		const wrong = ["", payer.address, `did:pkh:eip155:1:${payer.address}`, `did:pkh:eip155:${chainId}:${server.payee}`];
		await unchanged(server, [channel], async () => {
			expectRefusal(await server.pay("/session", anonymous), "bad-request");
			for (const other of wrong)
				expectRefusal(await server.pay("/session", { ...anonymous, source: other }), "bad-request");
		});
		expectPaid(await server.pay("/session", { ...anonymous, ...(source && { source }) }));
	});

	it("a top-up by hash of a transaction that reverted is 409 at once", async () => {
		const hash = await payer.sendBlind(topUpCall(channel.escrow, channel.channelId, 10n ** 30n));
		const draft = topUpByHash(payer, await challenge(), channel, hash, 10n ** 30n);
		const answer = await unchanged(server, [channel], () => server.pay("/session", draft));
		expectRefusal(answer, "session/transaction-reverted");
	});

	it("of a transaction nobody knows has to come back later (I10)", async () => {
		const hasty = await world.serve({ engine: { limits: { transactionTimeoutMs: 400 } } });
		const own = payer.channel(hasty.payee);
		const opened = await payer.openOnChain(own, DEPOSIT);
		expectPaid(await hasty.pay("/session", await payer.openByHash(await hasty.challenge("/session"), own, opened)));
		const draft = topUpByHash(payer, await hasty.challenge("/session"), own, `0x${"ab".repeat(32)}`, MORE);
		const answer = await unchanged(hasty, [own], () => hasty.pay("/session", draft));
		expectRefusal(answer, "service-unavailable");
	});

	it("of transactions nobody knows is waited for by sixty-four requests at a time; others come back at once (I10)", async () => {
		const patient = await world.serve({ engine: { limits: { transactionTimeoutMs: 3_000 } } });
		const own = await patient.open(payer);
		const one = await patient.challenge("/session");
		// Without sockets: the sender has as many as wait.
		const madeUp = () => {
			const hash: Hex = `0x${randomBytes(32).toString("hex")}`;
			const headers = { authorization: encode(topUpByHash(payer, one, own, hash, MORE)) };
			return patient.inject({ method: "GET", url: "/session", headers });
		};
		let answered = 0;
		const waiting = Array.from({ length: 64 }, () => madeUp().finally(() => answered++));
		const late = await madeUp();
		expect(late.statusCode).toBe(503);
		expect(late.headers["retry-after"]).toMatch(/^[1-9]\d*$/);
		expect(answered).toBe(0);
		for (const { statusCode } of await Promise.all(waiting)) expect(statusCode).toBe(503);
	});

	it("a top-up by hash of another channel's transaction, or of one that topped up nothing, is refused (D12)", async () => {
		const other = await server.open(payer);
		const hashes = [
			await topUpOnChain(payer, other, MORE),
			await payer.openOnChain(payer.channel(server.payee), MORE),
			await payer.sendBlind({ to: payer.address, data: "0x" }),
		];
		for (const hash of hashes) {
			const draft = topUpByHash(payer, await challenge(), channel, hash, MORE);
			const answer = await unchanged(server, [channel, other], () => server.pay("/session", draft));
			expectRefusal(answer, "verification-failed");
		}
	});

	it("a top-up by hash whose additionalDeposit is not what the event says is refused", async () => {
		const hash = await topUpOnChain(payer, channel, MORE);
		for (const amount of [MORE - 1n, MORE + 1n, 0n, DEPOSIT + MORE]) {
			const draft = topUpByHash(payer, await challenge(), channel, hash, amount);
			const answer = await unchanged(server, [channel], () => server.pay("/session", draft));
			expectRefusal(answer, "verification-failed");
		}
	});

	it("a top-up by hash is proven by the escrow's event, also when the transaction went through a smart account (D12)", async () => {
		const smart = await createSmartPayer(world, payer);
		channel = smart.payer.channel(server.payee, { signer: payer.account });
		const opened = await smart.openOnChain(channel, DEPOSIT);
		expectPaid(await server.pay("/session", await smart.payer.openByHash(await challenge(), channel, opened)));
		const hash = await smart.topUpOnChain(channel, MORE);
		const { to } = await world.chain.client.getTransaction({ hash });
		expect([channel.escrow, smart.payer.address]).not.toContain(to?.toLowerCase());
		expectPaid(await server.pay("/session", topUpByHash(smart.payer, await challenge(), channel, hash, MORE)));
		await expectToppedUp(DEPOSIT + MORE);
	});

	it("of a transaction that tops up twice counts both, once each, and a channel that closed meanwhile is 410", async () => {
		const smart = await createSmartPayer(world, payer);
		channel = smart.payer.channel(server.payee, { signer: payer.account });
		const opened = await smart.openOnChain(channel, DEPOSIT);
		expectPaid(await server.pay("/session", await smart.payer.openByHash(await challenge(), channel, opened)));
		await smart.topUpOnChain(channel, 1n);
		const twice = topUpCall(channel.escrow, channel.channelId, MORE);
		const hash = await smart.perform([approveCall(channel.token, channel.escrow, 2n * MORE), twice, twice]);
		for (let n = 0; n < 3; n++)
			expectPaid(await server.pay("/session", topUpByHash(smart.payer, await challenge(), channel, hash, MORE)));
		await expectToppedUp(DEPOSIT + 1n + 2n * MORE);
		expectPaid(await server.pay("/session", await payer.close(await challenge(), channel, PRICE)));
		const late = topUpByHash(smart.payer, await challenge(), channel, hash, MORE);
		expectRefusal(await server.pay("/session", late), "session/channel-finalized");
	});
});
