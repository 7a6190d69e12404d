import { type Address, type Hex, type LocalAccount, type PublicClient, zeroAddress } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { LocalChain } from "../../src/cli/demo/chain.ts";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import {
	approveCall,
	type Call,
	openCall,
	openWithPermit2Call,
	permitTransferCall,
	requestCloseCall,
	type TransferDetails,
	topUpCall,
	topUpWithAuthorizationCall,
	topUpWithPermit2Call,
	transferCall,
	withdrawCall,
} from "../../src/escrow/calls.ts";
import { findChannelOpened, findToppedUp, findTransfers } from "../../src/escrow/events.ts";
import {
	isPermit2NonceUsed,
	readAllowance,
	readBalance,
	readChannel,
	readTokenDomain,
} from "../../src/escrow/reads.ts";
import { revertReason } from "../../src/escrow/reverts.ts";
import {
	CANONICAL_PERMIT2,
	computeChannelId,
	createPermit2Domain,
	PAYMENT_WITNESS_FORMS,
	type PaymentPermit,
	type PaymentWitnessForm,
	type Permit2Domain,
	paymentPermitDigest,
	signAuthorization,
	signChannelPermit,
	signPaymentPermit,
	topUpAuthorizationNonce,
} from "../../src/voucher/index.ts";
import { startDeployChain } from "../deploy/support.ts";
import { rpc, sendAs, setBalance } from "./support.ts";

const CHAIN_ID = 31_337;
const FUNDS = 1_000n;
const UNLIMITED = 2n ** 256n - 1n;
const FOREVER = 2n ** 40n;
const WITNESS = { challengeHash: `0x${"c4".repeat(32)}`, externalId: "order 7, größer" } as const;

type Account = Parameters<typeof sendAs>[1];

let chain: LocalChain;
let client: PublicClient;
let token: Address;
let escrow: Address;
let domain: Permit2Domain;
/** New for each test: has tokens, and has approved Permit2. */
let payer: Account;
/** Submits, and is the spender of charges. */
let server: Account;

beforeAll(async () => {
	chain = await startDeployChain(CHAIN_ID);
	client = chain.client;
	domain = createPermit2Domain(CHAIN_ID, CANONICAL_PERMIT2);
	server = chain.account(2);
	({ token, escrow } = await deployContracts(chain, chain.account(0), chain.account(1).address, 10n ** 9n));
});
afterAll(() => chain?.stop());

beforeEach(async () => {
	payer = privateKeyToAccount(generatePrivateKey());
	await setBalance(client, payer.address, 10n ** 18n);
	await sendAs(chain, chain.account(1), transferCall(token, payer.address, FUNDS));
	await sendAs(chain, payer, approveCall(token, CANONICAL_PERMIT2, UNLIMITED));
});

const stranger = (): Address => privateKeyToAccount(generatePrivateKey()).address.toLowerCase() as Address;

/** A permit for `amounts`, one entry for each, that the server alone may use. */
function permitOf(amounts: readonly bigint[], nonce = 5n): PaymentPermit {
	const permitted = amounts.map((amount) => ({ token, amount }));
	return { permitted, spender: server.address, nonce, deadline: FOREVER, witness: WITNESS };
}

/** Transfers of just as much as is permitted, each to somebody new. */
function transfersOf({ permitted }: PaymentPermit): readonly TransferDetails[] {
	return permitted.map(({ amount }) => ({ to: stranger(), requestedAmount: amount }));
}

/** As an account with a key at hand signs one form, or a wallet that knows typed data alone the other. */
function signIn(form: PaymentWitnessForm, permit: PaymentPermit): Promise<Hex> {
	if (form === "draft") return signPaymentPermit(payer, domain, permit);
	const { address, signTypedData } = payer;
	return signPaymentPermit({ address, signTypedData }, domain, permit);
}

const charge = (
	permit: PaymentPermit,
	transfers: readonly TransferDetails[],
	form: PaymentWitnessForm,
	signature: Hex,
) => permitTransferCall(CANONICAL_PERMIT2, payer.address, permit, transfers, form, signature);

/** Why the chain refuses a call by `from`. */
async function refusal({ to, data }: Call, from: LocalAccount = server): Promise<string | undefined> {
	try {
		await client.estimateGas({ account: from, to, data });
	} catch (error) {
		return revertReason(error);
	}
	throw new Error("the call went through");
}

const send = (call: Call, from: Account = server) => sendAs(chain, from, call);

describe.each(PAYMENT_WITNESS_FORMS)("a charge through Permit2 whose witness is written as in %s", (form) => {
	it.each([1, 2, 11])("is executed on chain with %i transfers, in their order", async (count) => {
		const permit = permitOf(Array.from({ length: count }, (_, index) => BigInt(index + 3)));
		const transfers = transfersOf(permit);
		const receipt = await send(charge(permit, transfers, form, await signIn(form, permit)));
		const from = payer.address.toLowerCase();
		expect(findTransfers(receipt, token)).toMatchObject(
			transfers.map(({ to, requestedAmount }) => ({ from, to, value: requestedAmount })),
		);
		for (const { to, requestedAmount } of transfers) expect(await readBalance(client, token, to)).toBe(requestedAmount);
		const spent = transfers.reduce((sum, { requestedAmount }) => sum + requestedAmount, 0n);
		expect(await readBalance(client, token, payer.address)).toBe(FUNDS - spent);
	});

	it.each([1, 3])("is good once, and with %i transfers its nonce is then used", async (count) => {
		const permit = permitOf(Array.from({ length: count }, () => 10n));
		const call = charge(permit, transfersOf(permit), form, await signIn(form, permit));
		expect(await isPermit2NonceUsed(client, CANONICAL_PERMIT2, payer.address, permit.nonce)).toBe(false);
		await send(call);
		expect(await isPermit2NonceUsed(client, CANONICAL_PERMIT2, payer.address, permit.nonce)).toBe(true);
		expect(await refusal(call)).toBe("InvalidNonce");
	});

	it.each([1, 3])("is no charge in the other form, nor with a changed witness (%i transfers)", async (count) => {
		const permit = permitOf(Array.from({ length: count }, () => 10n));
		const signature = await signIn(form, permit);
		const other = form === "draft" ? "eip712" : "draft";
		expect(await refusal(charge(permit, transfersOf(permit), other, signature))).toBe("InvalidSigner");
		for (const witness of [
			{ ...WITNESS, externalId: "" },
			{ ...WITNESS, challengeHash: `0x${"c5".repeat(32)}` as const },
		]) {
			expect(await refusal(charge({ ...permit, witness }, transfersOf(permit), form, signature))).toBe("InvalidSigner");
		}
	});

	it("can be submitted by the spender alone", async () => {
		const permit = permitOf([10n]);
		const call = charge(permit, transfersOf(permit), form, await signIn(form, permit));
		expect(await refusal(call, chain.account(3))).toBe("InvalidSigner");
	});
});

describe("what Permit2 refuses, by name", () => {
	it("a deadline that has passed, and not one that is this very second", async () => {
		const { timestamp } = await client.getBlock();
		const late = { ...permitOf([10n]), deadline: timestamp - 1n };
		expect(await refusal(charge(late, transfersOf(late), "draft", await signIn("draft", late)))).toBe(
			"SignatureExpired",
		);
		const next = timestamp + 100n;
		const last = { ...permitOf([10n]), deadline: next };
		await rpc(client, "evm_setNextBlockTimestamp", [Number(next)]);
		const receipt = await send(charge(last, transfersOf(last), "draft", await signIn("draft", last)));
		expect((await client.getBlock({ blockNumber: receipt.blockNumber })).timestamp).toBe(next);
	});

	it.each([1, 2])("more than was permitted (%i transfers)", async (count) => {
		const permit = permitOf(Array.from({ length: count }, () => 10n));
		const transfers = permit.permitted.map(() => ({ to: stranger(), requestedAmount: 11n }));
		expect(await refusal(charge(permit, transfers, "draft", await signIn("draft", permit)))).toBe("InvalidAmount");
	});

	it("signatures of other lengths, and those that no key made", async () => {
		const permit = permitOf([10n]);
		expect(await refusal(charge(permit, transfersOf(permit), "draft", "0x1234"))).toBe("InvalidSignatureLength");
		expect(await refusal(charge(permit, transfersOf(permit), "draft", `0x${"00".repeat(65)}`))).toBe(
			"InvalidSignature",
		);
	});

	it("a contract account that does not accept the signature", async () => {
		const permit = permitOf([10n]);
		const signature = await signIn("draft", permit);
		await rpc(client, "anvil_setCode", [payer.address, "0x5f5f5260205ff3"]); // answers 0 to everything
		expect(await refusal(charge(permit, transfersOf(permit), "draft", signature))).toBe("InvalidContractSignature");
	});

	it("the whole batch when one transfer fails", async () => {
		const permit = permitOf([FUNDS, 1n]);
		const transfers = transfersOf(permit);
		const call = charge(permit, transfers, "draft", await signIn("draft", permit));
		expect(await refusal(call)).toBe("TRANSFER_FROM_FAILED");
		expect(await isPermit2NonceUsed(client, CANONICAL_PERMIT2, payer.address, permit.nonce)).toBe(false);
	});
});

describe("permitTransferCall", () => {
	it.each([
		[0, 0],
		[1, 0],
		[1, 2],
		[3, 2],
	])("makes no call of %i permitted entries and %i transfers", (permitted, transfers) => {
		const permit = permitOf(Array.from({ length: permitted }, () => 1n));
		const details = Array.from({ length: transfers }, () => ({ to: escrow, requestedAmount: 1n }));
		expect(() => charge(permit, details, "draft", "0x")).toThrow(RangeError);
	});
});

describe("isPermit2NonceUsed", () => {
	it.each([0n, 255n, 256n, UNLIMITED])("knows nonce %i and none beside it", async (nonce) => {
		const permit = permitOf([1n], nonce);
		await send(charge(permit, transfersOf(permit), "draft", await signIn("draft", permit)));
		const used = (one: bigint) => isPermit2NonceUsed(client, CANONICAL_PERMIT2, payer.address, one);
		expect(await used(nonce)).toBe(true);
		expect(await used(nonce ^ 1n)).toBe(false);
		expect(await used(nonce ^ 256n)).toBe(false);
		expect(await isPermit2NonceUsed(client, CANONICAL_PERMIT2, server.address, nonce)).toBe(false);
	});
});

describe("channels", () => {
	const SALT: Hex = `0x${"ab".repeat(32)}`;
	const channel = () => ({ payee: server.address, token, salt: SALT, authorizedSigner: zeroAddress as Address });
	const idOf = () => computeChannelId({ ...channel(), payer: payer.address, escrow, chainId: CHAIN_ID });

	/** A signed deposit. */
	async function deposit(amount: bigint, nonce: bigint, witness: Parameters<typeof signChannelPermit>[2]["witness"]) {
		const permit = { permitted: { token, amount }, spender: escrow, nonce, deadline: FOREVER, witness };
		const signature = await signChannelPermit(payer, domain, permit);
		return { from: payer.address, amount, nonce, deadline: FOREVER, signature };
	}

	async function openByPermit2(amount: bigint) {
		const { payee, salt, authorizedSigner } = channel();
		const signed = await deposit(amount, 1n, { payee, salt, authorizedSigner });
		return send(openWithPermit2Call(escrow, channel(), signed));
	}

	it("are opened and topped up through Permit2, without gas of the payer's", async () => {
		await setBalance(client, payer.address, 0n);
		const opened = await openByPermit2(300n);
		expect(findChannelOpened(opened, escrow, idOf())).toMatchObject({ deposit: 300n });
		const signed = await deposit(200n, 2n, { channelId: idOf() });
		const toppedUp = await send(topUpWithPermit2Call(escrow, idOf(), signed));
		const funder = payer.address.toLowerCase();
		expect(findToppedUp(toppedUp, escrow, idOf())).toEqual([
			{
				funder,
				amount: 200n,
				deposit: 500n,
				transactionHash: toppedUp.transactionHash,
				logIndex: expect.any(Number),
			},
		]);
		expect(await readChannel(client, escrow, idOf())).toMatchObject({ deposit: 500n, payer: funder });
		expect(await readBalance(client, token, payer.address)).toBe(FUNDS - 500n);
	});

	it("are not opened or topped up with a signature for another channel", async () => {
		const { payee, authorizedSigner } = channel();
		const elsewhere = await deposit(10n, 1n, { payee, salt: `0x${"ac".repeat(32)}`, authorizedSigner });
		expect(await refusal(openWithPermit2Call(escrow, channel(), elsewhere))).toBe("InvalidSigner");
		await openByPermit2(10n);
		const other = await deposit(10n, 2n, { channelId: `0x${"ee".repeat(32)}` });
		expect(await refusal(topUpWithPermit2Call(escrow, idOf(), other))).toBe("InvalidSigner");
	});

	it("are topped up by the payer itself and with an authorization", async () => {
		await openByPermit2(100n);
		await send(approveCall(token, escrow, 50n), payer);
		expect(await readAllowance(client, token, payer.address, escrow)).toBe(50n);
		const own = await send(topUpCall(escrow, idOf(), 50n), payer);
		expect(findToppedUp(own, escrow, idOf())).toMatchObject([{ amount: 50n, deposit: 150n }]);
		expect(await readAllowance(client, token, payer.address, escrow)).toBe(0n);

		const topUpSalt: Hex = `0x${"0a".repeat(32)}`;
		const from = payer.address;
		const nonce = topUpAuthorizationNonce({ channelId: idOf(), additionalDeposit: 30n, from, topUpSalt });
		const authorization = { from, to: escrow, value: 30n, validAfter: 0n, validBefore: FOREVER, nonce };
		const tokenDomain = await readTokenDomain(client, token, CHAIN_ID);
		const signature = await signAuthorization("receive", payer, tokenDomain, authorization);
		const call = topUpWithAuthorizationCall(escrow, idOf(), topUpSalt, { ...authorization, signature });
		expect(findToppedUp(await send(call), escrow, idOf())).toMatchObject([{ amount: 30n, deposit: 180n }]);
	});

	it("are closed by force: requested, and withdrawn after the grace period", async () => {
		await openByPermit2(100n);
		await send(requestCloseCall(escrow, idOf()), payer);
		expect((await readChannel(client, escrow, idOf()))?.closeRequestedAt).toBeGreaterThan(0);
		expect(await refusal(withdrawCall(escrow, idOf()), payer)).toBe("CloseNotReady");
		await rpc(client, "evm_increaseTime", [901]);
		await rpc(client, "evm_mine");
		await send(withdrawCall(escrow, idOf()), payer);
		expect(await readBalance(client, token, payer.address)).toBe(FUNDS);
	});

	it("have no top-up in a receipt of another contract's or another channel's", async () => {
		await send(approveCall(token, escrow, 50n), payer);
		const opened = await send(openCall(escrow, { ...channel(), deposit: 20n }), payer);
		expect(findToppedUp(opened, escrow, idOf())).toEqual([]);
		const receipt = await send(topUpCall(escrow, idOf(), 30n), payer);
		expect(findToppedUp(receipt, token, idOf())).toEqual([]);
		expect(findToppedUp(receipt, escrow, `0x${"ee".repeat(32)}`)).toEqual([]);
		expect(findTransfers(receipt, escrow)).toEqual([]);
		const [log] = receipt.logs.filter(({ address }) => address.toLowerCase() === escrow);
		if (log === undefined) throw new Error("the escrow wrote no log");
		const twice = { ...receipt, logs: [log, { ...log, logIndex: 99 }] };
		expect(findToppedUp(twice, escrow, idOf()).map(({ logIndex }) => logIndex)).toEqual([log.logIndex, 99]);
	});
});

describe("the two forms", () => {
	it("have digests of their own, for one transfer and for several", () => {
		for (const permit of [permitOf([1n]), permitOf([1n, 2n])]) {
			const [one, other] = PAYMENT_WITNESS_FORMS.map((form) => paymentPermitDigest(domain, permit, form));
			expect(one).not.toEqual(other);
		}
	});
});
