import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openCall } from "../../../src/escrow/calls.ts";
import { receiptFromJson } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import {
	createWorld,
	DEPOSIT,
	type PaidServer,
	type Payer,
	PRICE,
	type World,
	withPayload,
} from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve({ engine: { limits: { transactionTimeoutMs: 400, minSponsoredDeposit: 500n } } });
	payer = await world.payer({ gas: true });
});
afterAll(() => world.stop());

const challenge = () => server.challenge("/session");
const stranger = privateKeyToAccount(generatePrivateKey());

describe("open by authorization", () => {
	it("whose voucher does not cover the price is management: a receipt as header and body, no handler (D11)", async () => {
		for (const amount of [0n, PRICE - 1n]) {
			const channel = payer.channel(server.payee);
			const before = server.calls();
			const draft = await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount });
			const answer = await server.pay("/session", draft);
			expectPaid(answer);
			expect(answer.receipt).toMatchObject({
				channelId: channel.channelId,
				acceptedCumulative: amount,
				spent: 0n,
				challengeId: draft.challenge.id,
			});
			expect(receiptFromJson(answer.json)).toEqual(answer.receipt);
			expect(server.calls()).toBe(before);
			expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT, settled: 0n, payer: payer.address });
			expect(await server.amounts(channel)).toEqual({ acceptedCumulative: amount, spent: 0n, reserved: 0n });
		}
	});

	it("whose voucher covers the price runs the handler (D11)", async () => {
		const channel = payer.channel(server.payee);
		const before = server.calls("/session");
		const answer = await server.pay(
			"/session",
			await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: PRICE }),
		);
		expectPaid(answer);
		expect(answer.json).toEqual({ served: before + 1 });
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: PRICE, reserved: 0n });
	});

	it("on HEAD opens and never runs the handler (D11)", async () => {
		const channel = payer.channel(server.payee);
		const before = server.calls();
		const draft = await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: PRICE });
		expectPaid(await server.pay("/session", draft, { method: "HEAD" }));
		expect(server.calls()).toBe(before);
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: 0n, reserved: 0n });
	});

	it("for a delegated signer takes vouchers of that signer and of nobody else (D13)", async () => {
		const channel = payer.channel(server.payee, { signer: stranger });
		expectPaid(await server.pay("/session", await payer.open(await challenge(), channel, { deposit: DEPOSIT })));
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE)));
		const own = await payer.voucher(await challenge(), channel, 2n * PRICE, { signer: payer.account });
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", own)), "session/signer-mismatch");
	});

	it("sent twice deposits once (I4, D12)", async () => {
		const channel = payer.channel(server.payee);
		const first = await payer.open(await challenge(), channel, { deposit: DEPOSIT });
		expectPaid(await server.pay("/session", first));
		await unchanged(server, [channel], async () => {
			expectPaid(await server.pay("/session", first));
			expectPaid(await server.pay("/session", await payer.open(await challenge(), channel, { deposit: DEPOSIT })));
		});
		expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT });
	});

	it("sent five times at once is one transaction and one delivery (I4, I6)", async () => {
		const channel = payer.channel(server.payee);
		const [transactions, calls] = [await server.transactions(), server.calls("/session")];
		const draft = await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: 9n * PRICE });
		const answers = await Promise.all(Array.from({ length: 5 }, () => server.pay("/session", draft)));
		expect(answers.filter(({ status }) => status === 200).length).toBe(1);
		expect(server.calls("/session") - calls).toBe(1);
		expect(await server.transactions()).toBe(transactions + 1);
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: 9n * PRICE, spent: PRICE, reserved: 0n });
	});

	it("with a challenge that has opened another channel is refused before any gas, also at the same time (D9)", async () => {
		const one = await challenge();
		const channels = [payer.channel(server.payee), payer.channel(server.payee), payer.channel(server.payee)];
		const drafts = await Promise.all(channels.map((channel) => payer.open(one, channel, { deposit: DEPOSIT })));
		const [first, second, third] = drafts;
		if (first === undefined || second === undefined || third === undefined) throw new Error("three drafts");
		const before = await server.transactions();
		const answers = await Promise.all([server.pay("/session", first), server.pay("/session", second)]);
		expect(answers.map(({ status }) => status).sort()).toEqual([200, 402]);
		for (const answer of answers) if (answer.status === 402) expectRefusal(answer, "session/challenge-not-found");
		expect(await server.transactions()).toBe(before + 1);
		const late = await unchanged(server, channels, () => server.pay("/session", third));
		expectRefusal(late, "session/challenge-not-found");
	});

	it("on a channel whose close the payer has requested takes no higher voucher once that must be known (I9, D1, D2)", async () => {
		const channel = await server.open(payer);
		await payer.requestClose(channel);
		server.clock.advance(15_001);
		const again = await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: 5n * PRICE });
		const before = server.calls();
		const answer = await server.pay("/session", again);
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: 0n, spent: 0n, reserved: 0n });
		expect(server.calls()).toBe(before);
		expectRefusal(answer, "session/channel-closing");
	});
});

describe("an open that is refused costs no gas and stores nothing (D5)", () => {
	type Case = readonly [title: string, problem: Parameters<typeof expectRefusal>[1], make: Make];
	type Make = (channel: ReturnType<Payer["channel"]>) => ReturnType<Payer["open"]>;
	const good = { deposit: DEPOSIT };
	const cases: readonly Case[] = [
		[
			"initial voucher of somebody else",
			"session/signer-mismatch",
			async (channel) => payer.open(await challenge(), channel, { ...good, voucher: { signer: stranger } }),
		],
		[
			"initial voucher for another amount",
			"session/signer-mismatch",
			async (channel) => payer.open(await challenge(), channel, { ...good, voucher: { amount: 1n } }),
		],
		[
			"initial voucher that is no signature",
			"session/invalid-signature",
			async (channel) =>
				withPayload(await payer.open(await challenge(), channel, good), { voucherSignature: `0x${"00".repeat(65)}` }),
		],
		[
			"initial voucher above the deposit",
			"session/amount-exceeds-deposit",
			async (channel) => payer.open(await challenge(), channel, { ...good, amount: DEPOSIT + 1n }),
		],
		[
			"authorization signed by somebody else",
			"session/signer-mismatch",
			async (channel) => payer.open(await challenge(), channel, { ...good, signer: stranger }),
		],
		[
			"authorization to somebody else",
			"bad-request",
			async (channel) => payer.open(await challenge(), channel, { ...good, authorization: { to: stranger.address } }),
		],
		[
			"nonce that does not follow from the channel",
			"bad-request",
			async (channel) =>
				payer.open(await challenge(), channel, { ...good, authorization: { nonce: `0x${"11".repeat(32)}` } }),
		],
		[
			"authorization that has expired",
			"payment-expired",
			async (channel) =>
				payer.open(await challenge(), channel, { ...good, authorization: { validBefore: nowSeconds() - 1n } }),
		],
		[
			"authorization about to expire",
			"payment-expired",
			async (channel) =>
				payer.open(await challenge(), channel, { ...good, authorization: { validBefore: nowSeconds() + 2n } }),
		],
		[
			"authorization not valid yet",
			"payment-expired",
			async (channel) =>
				payer.open(await challenge(), channel, { ...good, authorization: { validAfter: nowSeconds() + 60n } }),
		],
		[
			"deposit below minSponsoredDeposit",
			"session/insufficient-balance",
			async (channel) => payer.open(await challenge(), channel, { deposit: 499n }),
		],
		[
			"deposit of nothing",
			"session/insufficient-balance",
			async (channel) => payer.open(await challenge(), channel, { deposit: 0n }),
		],
		[
			"deposit above what the payer has",
			"session/insufficient-balance",
			async (channel) => payer.open(await challenge(), channel, { deposit: 10n ** 30n }),
		],
		[
			"channelId of another salt",
			"bad-request",
			async (channel) =>
				withPayload(await payer.open(await challenge(), channel, good), { salt: `0x${"22".repeat(32)}` }),
		],
		[
			"channel to another payee",
			"bad-request",
			async () => payer.open(await challenge(), payer.channel(stranger.address), good),
		],
		[
			"payer's own address as signer of a channel that has none",
			"bad-request",
			async (channel) =>
				withPayload(await payer.open(await challenge(), channel, good), { authorizedSigner: payer.address }),
		],
	];
	const nowSeconds = () => BigInt(Math.floor(server.clock.now() / 1_000));

	it.each(cases)("%s: %s", async (_title, problem, make) => {
		const channel = payer.channel(server.payee);
		const draft = await make(channel);
		const answer = await unchanged(server, [channel], () => server.pay("/session", draft));
		expectRefusal(answer, problem);
		expect(await server.ledger(channel)).toBeUndefined();
		expect(await world.onChain(channel)).toBeUndefined();
	});
});

describe("open by hash", () => {
	it("credits what the payer's own transaction put in, once (D12)", async () => {
		const channel = payer.channel(server.payee);
		const hash = await payer.openOnChain(channel, DEPOSIT);
		const draft = await payer.openByHash(await challenge(), channel, hash, PRICE);
		const before = await server.transactions();
		expectPaid(await server.pay("/session", draft));
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT, spent: PRICE, payer: payer.address });
		const again = await payer.openByHash(await challenge(), channel, hash, PRICE);
		const answer = await unchanged(server, [channel], () => server.pay("/session", again));
		expect(answer.status).toBe(200);
		expect(answer.receipt).toMatchObject({ acceptedCumulative: PRICE, spent: PRICE });
		expect(await server.transactions()).toBe(before);
	});

	it("needs a source, and the payer's (D8)", async () => {
		const channel = payer.channel(server.payee);
		const hash = await payer.openOnChain(channel, DEPOSIT);
		const { challenge: one, payload, source } = await payer.openByHash(await challenge(), channel, hash);
		const sources = [undefined, "", "did:pkh:eip155:1:0x00", `did:pkh:eip155:1:${payer.address}`, payer.address];
		for (const bad of [...sources, `did:pkh:eip155:${world.chain.chainId}:${stranger.address}`]) {
			const draft = { challenge: one, payload, ...(bad !== undefined && { source: bad }) };
			expectRefusal(await unchanged(server, [channel], () => server.pay("/session", draft)), "bad-request");
		}
		expectPaid(await server.pay("/session", { challenge: one, payload, ...(source && { source }) }));
	});

	it("of a transaction nobody knows has to come back later (I10)", async () => {
		const channel = payer.channel(server.payee);
		const draft = await payer.openByHash(await challenge(), channel, `0x${"ab".repeat(32)}`);
		const answer = await unchanged(server, [channel], () => server.pay("/session", draft));
		expectRefusal(answer, "service-unavailable");
	});

	it("of a transaction that reverted is 409 at once (draft: Transaction Outcome Checks)", async () => {
		const poor = await world.payer({ gas: true, funds: 0n });
		const channel = poor.channel(server.payee);
		const hash = await poor.sendBlind(openCall(channel.escrow, { ...channel, deposit: DEPOSIT }));
		const draft = await poor.openByHash(await challenge(), channel, hash);
		const answer = await unchanged(server, [channel], () => server.pay("/session", draft));
		expectRefusal(answer, "session/transaction-reverted");
	});

	it("of another channel's transaction, or of one that opened nothing, is refused (D12)", async () => {
		const [mine, other] = [payer.channel(server.payee), payer.channel(server.payee)];
		const hashes = [await payer.openOnChain(other, DEPOSIT), await payer.sendBlind({ to: payer.address, data: "0x" })];
		for (const hash of hashes) {
			const draft = await payer.openByHash(await challenge(), mine, hash);
			const answer = await unchanged(server, [mine, other], () => server.pay("/session", draft));
			expectRefusal(answer, "session/channel-not-found");
		}
	});

	it("of a deposit below the price, or with a bad or too high voucher, stores nothing (D5)", async () => {
		const channel = payer.channel(server.payee);
		const hash = await payer.openOnChain(channel, PRICE - 1n);
		const low = await payer.openByHash(await challenge(), channel, hash);
		const high = await payer.openByHash(await challenge(), channel, hash, PRICE);
		const forged = await payer.openByHash(await challenge(), channel, hash, 0n, { signer: stranger });
		await unchanged(server, [channel], async () => {
			expectRefusal(await server.pay("/session", forged), "session/signer-mismatch");
			expectRefusal(await server.pay("/session", low), "session/insufficient-balance");
			expect((await server.pay("/session", high)).status).toBe(402);
		});
	});

	it("of a channel whose close was requested is refused (draft: Open Verification 4)", async () => {
		const channel = payer.channel(server.payee);
		const hash = await payer.openOnChain(channel, DEPOSIT);
		await payer.requestClose(channel);
		const draft = await payer.openByHash(await challenge(), channel, hash, PRICE);
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", draft)), "session/channel-closing");
	});
});

describe("a server that pays no fees", () => {
	it("takes only opens by hash", async () => {
		const frugal = await world.serve({ engine: { feePayer: false } });
		const channel = payer.channel(frugal.payee);
		const draft = await payer.open(await frugal.challenge("/session"), channel, { deposit: DEPOSIT });
		expectRefusal(await unchanged(frugal, [channel], () => frugal.pay("/session", draft)), "method-unsupported");
		const hash = await payer.openOnChain(channel, DEPOSIT);
		expectPaid(await frugal.pay("/session", await payer.openByHash(await frugal.challenge("/session"), channel, hash)));
	});
});
