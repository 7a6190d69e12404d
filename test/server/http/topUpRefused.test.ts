import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeAll, beforeEach, describe, it } from "vitest";
import { expectPaid, expectRefusal, unmoved } from "../../support/expect.ts";
import { approvedPayer, topUpByAuthorization, topUpByPermit2 } from "../../support/sessionDrafts.ts";
import { MORE } from "../../support/sessionStage.ts";
import { useWorld } from "../../support/useWorld.ts";
import { type Draft, type PaidServer, type Payer, type TestChannel, withPayload } from "../../support/world.ts";

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
const stranger = privateKeyToAccount(generatePrivateKey());

describe("a top-up that is refused", () => {
	const nowSeconds = () => BigInt(Math.floor(server.clock.now() / 1_000));
	type Options = Parameters<typeof topUpByAuthorization>[4];
	const byAuthorization = async (options: Options, amount = MORE) =>
		topUpByAuthorization(payer, await challenge(), channel, amount, options);
	type Name = Parameters<typeof expectRefusal>[1];
	type Case = readonly [title: string, problem: Name, make: () => Promise<Draft>];
	const zeros = { signature: `0x${"00".repeat(65)}` };

	const authorizations: readonly Case[] = [
		["signature of somebody else", "session/signer-mismatch", () => byAuthorization({ signer: stranger })],
		["signature of zeros", "session/invalid-signature", async () => withPayload(await byAuthorization({}), zeros)],
		["expired", "payment-expired", () => byAuthorization({ authorization: { validBefore: nowSeconds() - 1n } })],
		[
			"about to expire",
			"payment-expired",
			() => byAuthorization({ authorization: { validBefore: nowSeconds() + 2n } }),
		],
		["not valid yet", "payment-expired", () => byAuthorization({ authorization: { validAfter: nowSeconds() + 60n } })],
		[
			"to somebody else than the escrow",
			"bad-request",
			() => byAuthorization({ authorization: { to: stranger.address } }),
		],
		[
			"nonce that does not follow from channel, amount, payer and salt",
			"bad-request",
			() => byAuthorization({ authorization: { nonce: `0x${"11".repeat(32)}` } }),
		],
		["funds missing", "session/insufficient-balance", () => byAuthorization({}, 10n ** 30n)],
		["amount of nothing", "session/insufficient-balance", () => byAuthorization({}, 0n)],
		[
			"additionalDeposit not the value",
			"bad-request",
			async () => withPayload(await byAuthorization({}), { additionalDeposit: String(MORE + 1n) }),
		],
		["without a salt", "bad-request", async () => withPayload(await byAuthorization({}), { salt: undefined })],
		[
			"of an unknown channel",
			"session/channel-not-found",
			async () => topUpByAuthorization(payer, await challenge(), payer.channel(server.payee), MORE),
		],
		[
			"of a channel that is finalized",
			"session/channel-finalized",
			async () => {
				expectPaid(await server.pay("/session", await payer.close(await challenge(), channel, 0n)));
				return byAuthorization({});
			},
		],
	];

	it.each(authorizations)("a top-up that is refused costs no gas and changes nothing: %s", refuses);

	const byPermit2 = async (options: Parameters<typeof topUpByPermit2>[4] = {}, amount = MORE) =>
		topUpByPermit2(payer, await challenge(), channel, amount, options);
	const permits: readonly Case[] = [
		["signature of somebody else", "session/signer-mismatch", () => byPermit2({ signer: stranger })],
		["signature of zeros", "session/invalid-signature", async () => withPayload(await byPermit2(), zeros)],
		["deadline past", "payment-expired", () => byPermit2({ permit: { deadline: nowSeconds() - 1n } })],
		["deadline about to pass", "payment-expired", () => byPermit2({ permit: { deadline: nowSeconds() + 2n } })],
		[
			"nonce already used",
			"session/transaction-reverted",
			async () => {
				const other = await server.open(payer);
				const first = await topUpByPermit2(payer, await challenge(), other, MORE, { permit: { nonce: 78n } });
				expectPaid(await server.pay("/session", first));
				return byPermit2({ permit: { nonce: 78n } });
			},
		],
		["other spender", "session/signer-mismatch", () => byPermit2({ permit: { spender: server.payee } })],
		[
			"other token than the currency",
			"bad-request",
			() => byPermit2({ permit: { permitted: { token: stranger.address, amount: MORE } } }),
		],
		[
			"additionalDeposit not the amount",
			"bad-request",
			async () => withPayload(await byPermit2(), { additionalDeposit: String(MORE + 1n) }),
		],
		[
			"witness with another channelId",
			"bad-request",
			() => byPermit2({ permit: { witness: { channelId: `0x${"33".repeat(32)}` } } }),
		],
		["funds missing", "session/insufficient-balance", () => byPermit2({}, 10n ** 30n)],
		[
			"payer who has not approved Permit2",
			"session/insufficient-balance",
			async () => topUpByPermit2(await world.payer(), await challenge(), channel, MORE),
		],
		[
			"of an unknown channel",
			"session/channel-not-found",
			async () => topUpByPermit2(payer, await challenge(), payer.channel(server.payee), MORE),
		],
		[
			"of a channel that is finalized",
			"session/channel-finalized",
			async () => {
				expectPaid(await server.pay("/session", await payer.close(await challenge(), channel, 0n)));
				return byPermit2();
			},
		],
	];

	it.each(permits)("a top-up by Permit2 that is refused costs no gas and changes nothing: %s", refuses);

	async function refuses(_title: string, problem: Name, make: () => Promise<Draft>): Promise<void> {
		const draft = await make();
		const answer = await unmoved(server, [channel], () => server.pay("/session", draft));
		expectRefusal(answer, problem);
	}
});
