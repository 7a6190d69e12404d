import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { ProblemName } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import {
	approvePermit2,
	merged,
	openByPermit2,
	placePermit2,
	topUpByAuthorization,
	topUpByPermit2,
} from "../../support/sessionDrafts.ts";
import {
	createWorld,
	DEPOSIT,
	type Draft,
	type PaidServer,
	type Payer,
	PRICE,
	type TestChannel,
	type World,
	withPayload,
} from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;

beforeAll(async () => {
	world = await createWorld();
	await placePermit2(world);
	server = await world.serve({ engine: { minVoucherDelta: 50n } });
});
afterAll(() => world.stop());
beforeEach(async () => {
	payer = await world.payer({ gas: true });
	await approvePermit2(world, payer);
});

const challenge = () => server.challenge("/session");
const stranger = privateKeyToAccount(generatePrivateKey());
const MORE = 3_000n;
const KINDS = ["authorization", "permit2"] as const;
type Kind = (typeof KINDS)[number];

/** A voucher of `amount` with the deposit that opens its channel. */
async function opening(kind: Kind, channel: TestChannel, amount = PRICE, deposit = DEPOSIT): Promise<Draft> {
	const one = await challenge();
	const open =
		kind === "permit2"
			? await openByPermit2(payer, one, channel, { deposit })
			: await payer.open(one, channel, { deposit });
	return merged(await payer.voucher(one, channel, amount), open);
}

/** A voucher of `amount` with a top-up. */
async function _toppingUp(kind: Kind, channel: TestChannel, amount: bigint, more = MORE): Promise<Draft> {
	const one = await challenge();
	const make = kind === "permit2" ? topUpByPermit2 : topUpByAuthorization;
	return merged(await payer.voucher(one, channel, amount), await make(payer, one, channel, more));
}

function depositOf(draft: Draft): Record<string, unknown> {
	return draft.payload.deposit as Record<string, unknown>;
}

describe("a voucher with a merged open", () => {
	const title = "a voucher with a merged open opens the channel, then is accepted and served, in one request";
	it.each(KINDS)(`${title} (%s)`, async (kind) => {
		const channel = payer.channel(server.payee);
		const [transactions, calls] = [await server.transactions(), server.calls("/session")];
		const answer = await server.pay("/session", await opening(kind, channel, 3n * PRICE));
		expectPaid(answer);
		expect(answer.json).toEqual({ served: calls + 1 });
		expect(await server.transactions()).toBe(transactions + 1);
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: 3n * PRICE, spent: PRICE, reserved: 0n });
		expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT, payer: payer.address });
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, 4n * PRICE)));
	});

	it("a merged open without authorizedSigner is derived and signed with the zero address", async () => {
		const channel = payer.channel(server.payee);
		const draft = await opening("authorization", channel);
		expect(depositOf(draft).authorizedSigner).toBeUndefined();
		expectPaid(await server.pay("/session", draft));
		const own = payer.channel(server.payee, { signer: payer.account });
		const without = await opening("authorization", own);
		const stripped = withPayload(without, { deposit: { ...depositOf(without), authorizedSigner: undefined } });
		expectRefusal(await unchanged(server, [own], () => server.pay("/session", stripped)), "bad-request");
		expectPaid(await server.pay("/session", await opening("permit2", own)));
	});

	it("on HEAD opens and accepts, and charges nothing (D11)", async () => {
		const channel = payer.channel(server.payee);
		expectPaid(await server.pay("/session", await opening("permit2", channel), { method: "HEAD" }));
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: 0n, reserved: 0n });
	});

	it("a merged open of a channel that exists deposits nothing more", async () => {
		for (const kind of KINDS) {
			const channel = payer.channel(server.payee);
			const first = await opening(kind, channel, PRICE);
			expectPaid(await server.pay("/session", first));
			const before = await server.transactions();
			// The very same deposit under a higher voucher: it was made, so only the voucher counts.
			const one = await challenge();
			const voucher = await payer.voucher(one, channel, 2n * PRICE);
			expectPaid(await server.pay("/session", withPayload(voucher, { deposit: depositOf(first) })));
			// Another deposit for a channel that is open: the draft wants a top-up.
			const another = await opening(kind, channel, 3n * PRICE, DEPOSIT + 1n);
			const answer = await unchanged(server, [channel], () => server.pay("/session", another));
			expectRefusal(answer, "session/transaction-reverted");
			expect(await server.transactions()).toBe(before);
			expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT });
		}
	});

	it("whose answer was lost does not fund twice, and pays as any repeated credential (I4, D7)", async () => {
		const channel = payer.channel(server.payee);
		const draft = await opening("permit2", channel, 2n * PRICE);
		expectPaid(await server.pay("/session", draft, { key: "k" }));
		const transactions = await server.transactions();
		const again = await unchanged(server, [channel], () => server.pay("/session", draft, { key: "k" }));
		expect(again.status).toBe(200);
		expectRefusal(
			await unchanged(server, [channel], () => server.pay("/session", draft)),
			"session/insufficient-balance",
		);
		await server.restart();
		expectPaid(await server.pay("/session", draft, { key: "l" }));
		expect(await server.transactions()).toBe(transactions);
		expect(await server.amounts(channel)).toMatchObject({ spent: 2n * PRICE });
	});

	const cases: readonly (readonly [string, ProblemName, (channel: TestChannel) => Promise<Draft>])[] = [
		[
			"voucher of somebody else",
			"session/signer-mismatch",
			async (channel) => {
				const one = await challenge();
				const voucher = await payer.voucher(one, channel, PRICE, { signer: stranger });
				return merged(voucher, await payer.open(one, channel, { deposit: DEPOSIT }));
			},
		],
		[
			"voucher above the deposit",
			"session/amount-exceeds-deposit",
			(channel) => opening("permit2", channel, DEPOSIT + 1n),
		],
		[
			"deposit below the price",
			"session/insufficient-balance",
			(channel) => opening("authorization", channel, 0n, PRICE - 1n),
		],
		[
			"deposit of funds that are not there",
			"session/insufficient-balance",
			(channel) => opening("permit2", channel, PRICE, 10n ** 30n),
		],
		[
			"deposit signed by somebody else",
			"session/signer-mismatch",
			async (channel) => {
				const one = await challenge();
				const open = await payer.open(one, channel, { deposit: DEPOSIT, signer: stranger });
				return merged(await payer.voucher(one, channel, PRICE), open);
			},
		],
		[
			"deposit for another channel",
			"bad-request",
			async (channel) => {
				const one = await challenge();
				const other = await payer.open(one, payer.channel(server.payee), { deposit: DEPOSIT });
				return merged(await payer.voucher(one, channel, PRICE), other);
			},
		],
		[
			"deposit without a salt",
			"bad-request",
			async (channel) => {
				const draft = await opening("authorization", channel);
				return withPayload(draft, { deposit: { ...depositOf(draft), salt: undefined } });
			},
		],
		[
			"deposit by hash",
			"bad-request",
			async (channel) => {
				const draft = await opening("authorization", channel);
				return withPayload(draft, { deposit: { ...depositOf(draft), type: "hash" } });
			},
		],
	];
	it.each(cases)("that is refused costs no gas and stores nothing (D5, D14): %s", async (_title, problem, make) => {
		const channel = payer.channel(server.payee);
		const draft = await make(channel);
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", draft)), problem);
		expect(await server.ledger(channel)).toBeUndefined();
		expect(await world.onChain(channel)).toBeUndefined();
	});
});
