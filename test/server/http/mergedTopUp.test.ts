import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { ProblemName } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal, unchanged, unmoved } from "../../support/expect.ts";
import {
	approvedPayer,
	merged,
	topUpByAuthorization,
	topUpByPermit2,
	topUpOnChain,
} from "../../support/sessionDrafts.ts";
import { depositOf, KINDS, type Kind, MORE, voucherThatOpens, voucherThatTopsUp } from "../../support/sessionStage.ts";
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

const toppingUp = (kind: Kind, channel: TestChannel, amount: bigint, more?: bigint) =>
	voucherThatTopsUp(kind, { server, payer }, channel, amount, more);

describe("a voucher with a merged top-up", () => {
	const titles = {
		authorization:
			"a voucher with a merged top-up by authorization adds the deposit, then is accepted above the old one",
		permit2: "a voucher with a merged top-up or open by Permit2 adds the deposit, then is accepted above the old one",
	};
	for (const kind of KINDS) {
		it(`${titles[kind]}`, async () => {
			const channel = await server.open(payer);
			const [transactions, calls] = [await server.transactions(), server.calls("/session")];
			const answer = await server.pay("/session", await toppingUp(kind, channel, DEPOSIT + MORE));
			expectPaid(answer);
			expect(answer.json).toEqual({ served: calls + 1 });
			expect(answer.receipt).toMatchObject({ acceptedCumulative: DEPOSIT + MORE, spent: PRICE });
			expect(await server.transactions()).toBe(transactions + 1);
			expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT + MORE });
			expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT + MORE });
		});
	}

	it("whose answer was lost does not fund twice, and pays as any repeated credential (I4, D7)", async () => {
		for (const kind of KINDS) {
			const channel = await server.open(payer);
			const draft = await toppingUp(kind, channel, DEPOSIT + 2n * PRICE);
			expectPaid(await server.pay("/session", draft));
			const transactions = await server.transactions();
			await unchanged(server, [channel], async () => {
				expectRefusal(await server.pay("/session", draft), "session/insufficient-balance");
				expectPaid(await server.pay("/session", draft, { method: "HEAD" }));
			});
			await server.restart();
			expectPaid(await server.pay("/session", draft, { key: "new" }));
			expect(await server.transactions()).toBe(transactions);
			expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT + MORE, spent: 2n * PRICE });
		}
	});

	it("under the challenge of a cheaper route is refused before it costs gas (D9, D14)", async () => {
		const shop = await world.serve({
			routes: (app, { handler }) => {
				app.get("/cheap", { config: { payment: { price: 1n } } }, handler("/cheap"));
				app.get("/dear", { config: { payment: { price: 1_000n } } }, handler("/dear"));
			},
		});
		for (const kind of KINDS) {
			const channel = await shop.open(payer, {}, "/cheap");
			const draft = await voucherThatTopsUp(kind, { server: shop, payer }, channel, DEPOSIT + MORE, MORE, "/cheap");
			const before = await shop.transactions();
			const answer = await unchanged(shop, [channel], () => shop.pay("/dear", draft));
			expectRefusal(answer, "session/challenge-not-found");
			expect(await shop.transactions()).toBe(before);
			expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT });
			expectPaid(await shop.pay("/cheap", draft));
		}
	});

	it("on a channel whose close the payer has requested is 409 before anything is sent, however lately (D14)", async () => {
		const channel = await server.open(payer);
		await payer.requestClose(channel);
		// The server has not heard of it yet: it looks before it spends.
		const draft = await toppingUp("authorization", channel, DEPOSIT + MORE);
		const before = await server.transactions();
		expectRefusal(await server.pay("/session", draft), "session/channel-closing");
		expect(await server.transactions()).toBe(before);
		expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT });
		expect((await world.onChain(channel))?.closeRequestedAt).toBeGreaterThan(0);
		const again = await unmoved(server, [channel], () => server.pay("/session", draft));
		expectRefusal(again, "session/channel-closing");
	});

	it("whose deposit was made before is 409 as well once a close request must be known (I9, D1)", async () => {
		const channel = await server.open(payer);
		const draft = await toppingUp("authorization", channel, DEPOSIT);
		expectPaid(await server.pay("/session", draft));
		await payer.requestClose(channel);
		server.clock.advance(15_001);
		const one = await challenge();
		const higher = await payer.voucher(one, channel, DEPOSIT + MORE);
		const again = withPayload(higher, { deposit: depositOf(draft) });
		const before = await server.amounts(channel);
		expectRefusal(await server.pay("/session", again), "session/channel-closing");
		expect(await server.amounts(channel)).toEqual(before);
	});

	it("is taken again once the payer has cancelled its close request past this server (D2)", async () => {
		const channel = await server.open(payer);
		await payer.requestClose(channel);
		server.clock.advance(15_001);
		expectRefusal(
			await server.pay("/session", await toppingUp("permit2", channel, DEPOSIT)),
			"session/channel-closing",
		);
		await topUpOnChain(payer, channel, 1n);
		server.clock.advance(15_001);
		expectPaid(await server.pay("/session", await toppingUp("permit2", channel, DEPOSIT + MORE)));
	});

	it("a merged open needs a salt, a merged top-up by authorization too", async () => {
		const channel = await server.open(payer);
		const unsalted = async (draft: Promise<Draft>) => {
			const one = await draft;
			return withPayload(one, { deposit: { ...depositOf(one), salt: undefined } });
		};
		const refused = [
			unsalted(toppingUp("authorization", channel, DEPOSIT + MORE)),
			unsalted(voucherThatOpens("authorization", { server, payer }, payer.channel(server.payee))),
			unsalted(voucherThatOpens("permit2", { server, payer }, payer.channel(server.payee))),
		];
		for (const draft of await Promise.all(refused))
			expectRefusal(await unchanged(server, [channel], () => server.pay("/session", draft)), "bad-request");
		expectPaid(await server.pay("/session", await unsalted(toppingUp("permit2", channel, DEPOSIT + MORE))));
	});

	it("of an unknown channel that is not on chain either is 410, and nothing is sent", async () => {
		const channel = payer.channel(server.payee);
		const draft = await toppingUp("permit2", channel, PRICE);
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", draft)), "session/channel-not-found");
	});

	const cases: readonly (readonly [string, ProblemName, (channel: TestChannel) => Promise<Draft>])[] = [
		[
			"voucher of somebody else",
			"session/signer-mismatch",
			async (channel) => {
				const one = await challenge();
				const voucher = await payer.voucher(one, channel, PRICE, { signer: stranger });
				return merged(voucher, await topUpByAuthorization(payer, one, channel, MORE));
			},
		],
		[
			"voucher above even the raised deposit",
			"session/amount-exceeds-deposit",
			(channel) => toppingUp("authorization", channel, DEPOSIT + MORE + 1n),
		],
		[
			"voucher that adds too little",
			"session/delta-too-small",
			(channel) => toppingUp("permit2", channel, PRICE + 49n),
		],
		[
			"deposit of funds that are not there",
			"session/insufficient-balance",
			(channel) => toppingUp("permit2", channel, 2n * PRICE, 10n ** 30n),
		],
		[
			"deposit of nothing",
			"session/insufficient-balance",
			(channel) => toppingUp("authorization", channel, 2n * PRICE, 0n),
		],
		[
			"deposit for another channel, by authorization",
			"bad-request",
			async (channel) => {
				const [one, other] = [await challenge(), await server.open(payer)];
				return merged(
					await payer.voucher(one, channel, 2n * PRICE),
					await topUpByAuthorization(payer, one, other, MORE),
				);
			},
		],
		[
			"deposit for another channel, by Permit2",
			"bad-request",
			async (channel) => {
				const [one, other] = [await challenge(), await server.open(payer)];
				return merged(await payer.voucher(one, channel, 2n * PRICE), await topUpByPermit2(payer, one, other, MORE));
			},
		],
	];
	const title =
		"a merged deposit that fails refuses the voucher too: nothing accepted, nothing charged, nothing served";
	it.each(cases)(`${title} (D14): %s`, async (_title, problem, make) => {
		const channel = await server.open(payer);
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE)));
		const draft = await make(channel);
		expectRefusal(await unmoved(server, [channel], () => server.pay("/session", draft)), problem);
		expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT });
	});

	it("where the challenge lists hash alone is refused", async () => {
		const frugal = await world.serve({ engine: { feePayer: false } });
		const channel = payer.channel(frugal.payee);
		const hash = await payer.openOnChain(channel, DEPOSIT);
		const one = await frugal.challenge("/session");
		expectPaid(await frugal.pay("/session", await payer.openByHash(one, channel, hash)));
		const voucher = await payer.voucher(one, channel, PRICE);
		const draft = merged(voucher, await topUpByAuthorization(payer, one, channel, MORE));
		expectRefusal(await unchanged(frugal, [channel], () => frugal.pay("/session", draft)), "method-unsupported");
	});
});
