import { type Address, encodeDeployData, type Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeAll, describe, expect, it } from "vitest";
import { approveCall, openWithPermit2Call } from "../../../src/escrow/calls.ts";
import { paymentChannelEscrowAbi, paymentChannelEscrowBytecode } from "../../../src/escrow/generated/escrow.ts";
import { isPermit2NonceUsed } from "../../../src/escrow/reads.ts";
import { decodeRequest, type ProblemName, parseSessionRequest } from "../../../src/protocol/index.ts";
import { CANONICAL_PERMIT2, type ChannelPermit } from "../../../src/voucher/index.ts";
import permit2Code from "../../fixtures/permit2.json" with { type: "json" };
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { approvedPayer, openByPermit2, type PermitOptions } from "../../support/sessionDrafts.ts";
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
	server = await world.serve({ engine: { limits: { minSponsoredDeposit: 500n } } });
	payer = await approvedPayer(world);
});

const challenge = () => server.challenge("/session");
const stranger = privateKeyToAccount(generatePrivateKey());
const nowSeconds = () => BigInt(Math.floor(server.clock.now() / 1_000));

/** An escrow that has its Permit2 at `permit2`. */
async function deployEscrow(permit2: Address): Promise<Address> {
	const args = [900n, permit2] as const;
	const abi = paymentChannelEscrowAbi;
	const hash = await payer.sendBlind(
		{ to: null, data: encodeDeployData({ abi, bytecode: paymentChannelEscrowBytecode, args }) },
		10_000_000n,
	);
	const { contractAddress } = await world.chain.client.getTransactionReceipt({ hash });
	return contractAddress?.toLowerCase() as Address;
}

async function detailsOf(other: PaidServer) {
	return parseSessionRequest(decodeRequest(await other.challenge("/session"))).methodDetails;
}

describe("what is offered", () => {
	it("a fee payer's challenge lists authorization and permit2 as its escrow and token have them, hash last", async () => {
		const { methodDetails } = parseSessionRequest(decodeRequest(await challenge()));
		expect(methodDetails).toMatchObject({
			feePayer: true,
			credentialTypes: ["authorization", "permit2", "hash"],
			permit2Contract: CANONICAL_PERMIT2,
		});
	});

	it("permit2 is offered only where the escrow has a Permit2", async () => {
		const escrow = await deployEscrow(stranger.address);
		const details = await detailsOf(await world.serve({ escrow }));
		expect(details.credentialTypes).toEqual(["authorization", "hash"]);
		expect(details).not.toHaveProperty("permit2Contract");
		const [plain, frugal] = [
			await world.serve({ escrow, engine: { feePayer: false } }),
			{ engine: { feePayer: false } },
		];
		expect((await detailsOf(plain)).credentialTypes).toEqual(["hash"]);
		expect(await detailsOf(await world.serve(frugal))).not.toHaveProperty("feePayer");
	});

	it("a challenge names the escrow's Permit2 where it is not the canonical one, and opens through it", async () => {
		const hash = await payer.sendBlind({ to: null, data: permit2Code.initCode as Hex }, 10_000_000n);
		const { contractAddress } = await world.chain.client.getTransactionReceipt({ hash });
		const permit2 = contractAddress?.toLowerCase() as Address;
		const escrow = await deployEscrow(permit2);
		const elsewhere = await world.serve({ escrow });
		expect(await detailsOf(elsewhere)).toMatchObject({ permit2Contract: permit2, escrowContract: escrow });
		await payer.sendBlind(approveCall(world.token, permit2, DEPOSIT));
		const channel = payer.channelOn(escrow, elsewhere.payee);
		const draftOf = async (address: Address) =>
			openByPermit2(payer, await elsewhere.challenge("/session"), channel, { deposit: DEPOSIT, permit2: address });
		expectRefusal(await elsewhere.pay("/session", await draftOf(CANONICAL_PERMIT2)), "session/signer-mismatch");
		expectPaid(await elsewhere.pay("/session", await draftOf(permit2)));
		expect(await elsewhere.ledger(channel)).toMatchObject({ deposit: DEPOSIT, escrow });
	});
});

describe("open by Permit2", () => {
	it("an open by Permit2 whose voucher covers the price runs the handler, and the deposit is on chain", async () => {
		const channel = payer.channel(server.payee);
		const [calls, transactions] = [server.calls("/session"), await server.transactions()];
		const draft = await openByPermit2(payer, await challenge(), channel, { deposit: DEPOSIT, amount: PRICE });
		const answer = await server.pay("/session", draft);
		expectPaid(answer);
		expect(answer.json).toEqual({ served: calls + 1 });
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: PRICE, reserved: 0n });
		expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT, settled: 0n, payer: payer.address });
		expect(await server.transactions()).toBe(transactions + 1);
		const { nonce } = draft.payload.authorization as { nonce: string };
		expect(await isPermit2NonceUsed(world.chain.client, CANONICAL_PERMIT2, payer.address, BigInt(nonce))).toBe(true);
	});

	it("for a delegated signer takes vouchers of that signer and of nobody else (D13)", async () => {
		const channel = payer.channel(server.payee, { signer: stranger });
		expectPaid(
			await server.pay("/session", await openByPermit2(payer, await challenge(), channel, { deposit: DEPOSIT })),
		);
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE)));
		const own = await payer.voucher(await challenge(), channel, 2n * PRICE, { signer: payer.account });
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", own)), "session/signer-mismatch");
	});

	it("sent again deposits once, also after a restart (I4)", async () => {
		const channel = payer.channel(server.payee);
		const draft = await openByPermit2(payer, await challenge(), channel, { deposit: DEPOSIT });
		expectPaid(await server.pay("/session", draft));
		await unchanged(server, [channel], async () => {
			expectPaid(await server.pay("/session", draft));
			await server.restart();
			expectPaid(await server.pay("/session", draft));
		});
	});

	it("whose call a stranger copied and sent first is credited all the same (D12)", async () => {
		const channel = payer.channel(server.payee);
		const draft = await openByPermit2(payer, await challenge(), channel, { deposit: DEPOSIT, amount: PRICE });
		const { nonce, deadline } = draft.payload.authorization as { nonce: string; deadline: string };
		const deposit = {
			from: payer.address,
			amount: DEPOSIT,
			nonce: BigInt(nonce),
			deadline: BigInt(deadline),
			signature: draft.payload.signature as `0x${string}`,
		};
		await payer.sendBlind(openWithPermit2Call(channel.escrow, channel, deposit));
		expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT });
		const before = await server.transactions();
		expectPaid(await server.pay("/session", draft));
		expect(await server.transactions()).toBe(before);
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: PRICE, reserved: 0n });
	});
});

describe("an open by Permit2 that is refused", () => {
	const other = `0x${"22".repeat(32)}` as const;
	type Make = (channel: TestChannel) => Promise<Draft>;
	const witness = (channel: TestChannel, change: object): Partial<ChannelPermit> => {
		const { payee, salt, authorizedSigner } = channel;
		return { witness: { payee, salt, authorizedSigner, ...change } };
	};
	const make = async (channel: TestChannel, options: PermitOptions & { deposit?: bigint; amount?: bigint } = {}) =>
		openByPermit2(payer, await challenge(), channel, { deposit: DEPOSIT, ...options });
	const cases: readonly (readonly [string, ProblemName, Make])[] = [
		["signature of somebody else", "session/signer-mismatch", (channel) => make(channel, { signer: stranger })],
		[
			"signature of zeros",
			"session/invalid-signature",
			async (channel) => withPayload(await make(channel), { signature: `0x${"00".repeat(65)}` }),
		],
		[
			"initial voucher of somebody else",
			"session/signer-mismatch",
			async (channel) =>
				openByPermit2(payer, await challenge(), channel, { deposit: DEPOSIT, voucher: { signer: stranger } }),
		],
		["deadline past", "payment-expired", (channel) => make(channel, { permit: { deadline: nowSeconds() - 1n } })],
		[
			"deadline about to pass",
			"payment-expired",
			(channel) => make(channel, { permit: { deadline: nowSeconds() + 2n } }),
		],
		[
			"nonce already used",
			"session/transaction-reverted",
			async (channel) => {
				const before = payer.channel(server.payee);
				expectPaid(await server.pay("/session", await make(before, { permit: { nonce: 77n } })));
				return make(channel, { permit: { nonce: 77n } });
			},
		],
		["other spender", "session/signer-mismatch", (channel) => make(channel, { permit: { spender: server.payee } })],
		[
			"other token than the currency",
			"bad-request",
			(channel) => make(channel, { permit: { permitted: { token: stranger.address, amount: DEPOSIT } } }),
		],
		["amount below minSponsoredDeposit", "session/insufficient-balance", (channel) => make(channel, { deposit: 499n })],
		[
			"amount other than what was signed",
			"session/signer-mismatch",
			async (channel) => {
				const draft = await make(channel);
				const authorization = draft.payload.authorization as object;
				const permitted = { token: channel.token, amount: String(DEPOSIT + 1n) };
				return withPayload(draft, { authorization: { ...authorization, permitted } });
			},
		],
		[
			"initial voucher above the deposit",
			"session/amount-exceeds-deposit",
			(channel) => make(channel, { amount: DEPOSIT + 1n }),
		],
		[
			"witness with another payee",
			"bad-request",
			(channel) => make(channel, { permit: witness(channel, { payee: stranger.address }) }),
		],
		[
			"witness with another salt",
			"bad-request",
			(channel) => make(channel, { permit: witness(channel, { salt: other }) }),
		],
		[
			"witness with another signer",
			"bad-request",
			(channel) => make(channel, { permit: witness(channel, { authorizedSigner: stranger.address }) }),
		],
		["payer without funds", "session/insufficient-balance", (channel) => make(channel, { deposit: 10n ** 30n })],
		["channel to another payee", "bad-request", () => make(payer.channel(stranger.address))],
	];

	it.each(cases)(
		"an open by Permit2 that is refused costs no gas and stores nothing: %s",
		async (_title, problem, draftOf) => {
			const channel = payer.channel(server.payee);
			const draft = await draftOf(channel);
			const answer = await unchanged(server, [channel], () => server.pay("/session", draft));
			expectRefusal(answer, problem);
			expect(await server.ledger(channel)).toBeUndefined();
			expect(await world.onChain(channel)).toBeUndefined();
		},
	);

	it("an open by Permit2 of a payer who has not approved Permit2 is refused before any gas", async () => {
		const careful = await world.payer();
		const channel = careful.channel(server.payee);
		const draft = await openByPermit2(careful, await challenge(), channel, { deposit: DEPOSIT });
		const answer = await unchanged(server, [channel], () => server.pay("/session", draft));
		expectRefusal(answer, "session/insufficient-balance");
		expect(await world.onChain(channel)).toBeUndefined();
	});

	it("where the challenge does not list permit2", async () => {
		const plain = await world.serve({
			routes: (app, { handler }) => {
				const payment = { price: PRICE, credentialTypes: ["authorization" as const] };
				app.get("/session", { config: { payment } }, handler("/session"));
			},
		});
		const channel = payer.channel(plain.payee);
		const draft = await openByPermit2(payer, await plain.challenge("/session"), channel, { deposit: DEPOSIT });
		expectRefusal(await unchanged(plain, [channel], () => plain.pay("/session", draft)), "method-unsupported");
	});
});
