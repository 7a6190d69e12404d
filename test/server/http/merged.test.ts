import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { ProblemName } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { approvedPayer, merged } from "../../support/sessionDrafts.ts";
import { depositOf, KINDS, type Kind, voucherThatOpens } from "../../support/sessionStage.ts";
import { useWorld } from "../../support/useWorld.ts";
import {
	DEPOSIT,
	type Draft,
	type PaidServer,
	type Payer,
	PRICE,
	type TestChannel,
	withPayload,
} from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;

beforeAll(async () => {
	server = await world.serve({ engine: { minVoucherDelta: 50n } });
});
beforeEach(async () => {
	payer = await approvedPayer(world);
});

const challenge = () => server.challenge("/session");
const stranger = privateKeyToAccount(generatePrivateKey());

const opening = (kind: Kind, channel: TestChannel, amount?: bigint, deposit?: bigint) =>
	voucherThatOpens(kind, { server, payer }, channel, amount, deposit);

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

	it("under the challenge of a cheaper route is refused before it costs gas (D9, D14)", async () => {
		const shop = await world.serve({
			routes: (app, { handler }) => {
				app.get("/cheap", { config: { payment: { price: 1n } } }, handler("/cheap"));
				app.get("/dear", { config: { payment: { price: 1_000n } } }, handler("/dear"));
			},
		});
		for (const kind of KINDS) {
			const channel = payer.channel(shop.payee);
			const open = await voucherThatOpens(kind, { server: shop, payer }, channel, 2_000n, undefined, "/cheap");
			const before = await shop.transactions();
			expectRefusal(await shop.pay("/dear", open), "session/challenge-not-found");
			expect(await shop.transactions()).toBe(before);
			expect(await world.onChain(channel)).toBeUndefined();
			expectPaid(await shop.pay("/dear", open, { method: "HEAD" }));
			expectPaid(await shop.pay("/cheap", open));
		}
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
