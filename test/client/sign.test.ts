import { type Address, getAddress, type Hex, parseTransaction, TransactionReceiptNotFoundError } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PayerChannel } from "../../src/client/channel.ts";
import { keyOfChannel } from "../../src/client/channelKey.ts";
import { openCredential } from "../../src/client/funding.ts";
import { Gate } from "../../src/client/gate.ts";
import { Keeper } from "../../src/client/keeper.ts";
import { Nodes } from "../../src/client/nodes.ts";
import { type PaymentPolicy, parsePolicy } from "../../src/client/policy.ts";
import { CredentialSigner } from "../../src/client/sign.ts";
import { MemoryPayerStore } from "../../src/client/store/memoryStore.ts";
import { type SentTransaction, Wallet } from "../../src/client/wallet.ts";
import { approveCall, openCall, readChannel, transferCall } from "../../src/escrow/index.ts";
import {
	formatTimestamp,
	parseCredential,
	parseSessionPayload,
	parseSessionRequest,
} from "../../src/protocol/index.ts";
import {
	authorizationDigest,
	CANONICAL_PERMIT2,
	type ChannelParameters,
	channelPermitDigest,
	computeChannelId,
	createPermit2Domain,
	createVoucherDomain,
	createVoucherVerifier,
	openAuthorizationNonce,
	paymentPermitDigest,
	ZERO_ADDRESS,
} from "../../src/voucher/index.ts";
import { mined } from "../support/mined.ts";
import { createStage, type Stage } from "./stage.ts";
import { challengeOf, codeOf, STRANGER, sessionTerms, spyOn } from "./support.ts";

const PAYEE: Address = `0x${"bb".repeat(20)}`;
const NOW = 1_800_000_000_000;
const verifier = createVoucherVerifier();

let stage: Stage;
beforeAll(async () => {
	stage = await createStage();
});
afterAll(() => stage.stop());

async function signerFor(
	options: { gas?: boolean; now?: () => number; sessionKey?: boolean; tokenName?: string } = {},
) {
	const spy = spyOn(await stage.payer(options));
	const now = options.now ?? (() => NOW);
	const nodes = new Nodes({ account: spy.account, client: stage.chain.client, clients: {}, now });
	const authorizedSigner = options.sessionKey ? privateKeyToAccount(generatePrivateKey()) : undefined;
	const { token, chain } = stage;
	const tokenNames =
		options.tokenName === undefined
			? undefined
			: [{ chainId: chain.chainId, token: getAddress(token), name: options.tokenName, version: "2" }];
	const signer = new CredentialSigner({ account: spy.account, authorizedSigner, nodes, tokenNames, now });
	return { spy, signer, nodes, now, authorizedSigner };
}

/** What funding works with, under the policy of these tests. */
function fundingParts(signer: CredentialSigner, nodes: Nodes, now: () => number) {
	const policy = parsePolicy({ ...POLICY(), escrows: [stage.escrow] });
	const restore = () => {
		throw new Error("nothing is kept");
	};
	const keeper = new Keeper({ store: new MemoryPayerStore(), payer: signer.payer, restore, now });
	const gate = new Gate({ keeper, policy: () => policy, approve: undefined, now });
	return { policy, signer, nodes, gate, keeper, now, credentialTypes: undefined };
}

function channelOf(payer: Address, changes: Partial<ChannelParameters> = {}) {
	const parameters: ChannelParameters = {
		payer,
		payee: PAYEE,
		token: stage.token,
		salt: `0x${crypto.randomUUID().replaceAll("-", "").padEnd(64, "0")}`,
		authorizedSigner: ZERO_ADDRESS,
		escrow: stage.escrow,
		chainId: stage.chain.chainId,
		...changes,
	};
	return { parameters, channelId: computeChannelId(parameters) };
}

const POLICY = (): PaymentPolicy => ({
	chainIds: [stage.chain.chainId],
	tokens: [stage.token],
	payees: [PAYEE],
	maxDeposit: 10n,
	maxPrice: 10n,
});

describe("a voucher", () => {
	it("is the payer's, for its channel, escrow and chain", async () => {
		const { signer } = await signerFor();
		const { parameters, channelId } = channelOf(signer.payer);
		const signature = await signer.voucher({ channelId, parameters }, 7n);
		const voucher = { channelId, cumulativeAmount: 7n };
		const verify = (chainId: number, escrow: Address) =>
			verifier.verifyVoucher(createVoucherDomain(chainId, escrow), signer.payer, voucher, signature);
		expect(verify(stage.chain.chainId, stage.escrow)).toBe("valid");
		expect(verify(stage.chain.chainId + 1, stage.escrow)).toBe("signer-mismatch");
		expect(verify(stage.chain.chainId, STRANGER)).toBe("signer-mismatch");
	});

	it("is the session key's where the channel names it, and the payer's where it does not (D13)", async () => {
		const { spy, signer, authorizedSigner } = await signerFor({ sessionKey: true });
		expect(signer.authorizedSigner).toBe(authorizedSigner?.address.toLowerCase());
		const domain = createVoucherDomain(stage.chain.chainId, stage.escrow);
		const delegated = channelOf(signer.payer, { authorizedSigner: signer.authorizedSigner });
		const byKey = await signer.voucher(delegated, 7n);
		const { channelId } = delegated;
		expect(verifier.verifyVoucher(domain, signer.authorizedSigner, { channelId, cumulativeAmount: 7n }, byKey)).toBe(
			"valid",
		);
		expect(spy.vouchers()).toEqual([]);
		await signer.voucher(channelOf(signer.payer), 7n);
		expect(spy.vouchers()).toEqual([7n]);
	});

	it("of a payer who names itself as its session key is for a channel that names nobody", async () => {
		const { spy, nodes, now } = await signerFor();
		const signer = new CredentialSigner({ account: spy.account, authorizedSigner: spy.account, nodes, now });
		expect(signer.authorizedSigner).toBe(ZERO_ADDRESS);
	});
});

describe("an authorization of money", () => {
	const TRANSFER = { to: PAYEE, value: 250n, nonce: `0x${"0f".repeat(32)}` } as const;

	it("says exactly what it was asked for, in the token's own domain", async () => {
		const { signer } = await signerFor();
		const challenge = challengeOf(sessionTerms(stage, PAYEE), { expires: formatTimestamp(NOW + 60_000) });
		const token = { chainId: stage.chain.chainId, token: stage.token };
		const { signature, ...authorization } = await signer.authorize("transfer", challenge, token, TRANSFER);
		expect(authorization).toEqual({
			from: signer.payer,
			...TRANSFER,
			validAfter: 0n,
			validBefore: BigInt(NOW / 1_000 + 60),
		});
		const domain = { name: "USD Coin", version: "2", chainId: stage.chain.chainId, verifyingContract: stage.token };
		const digest = authorizationDigest("transfer", domain, authorization);
		expect(verifier.verifyDigest(signer.payer, digest, signature)).toBe("valid");
	});

	it.each([
		["as long as its challenge", formatTimestamp(NOW + 30_000), 30],
		["but never longer than five minutes (core, Amount Verification)", "9999-12-31T23:59:59Z", 300],
		["five minutes where the challenge does not say", undefined, 300],
		["not at all where the challenge is of the past", formatTimestamp(NOW - 10_000), -10],
	])("lives %s", async (_name, expires, seconds) => {
		const { signer } = await signerFor();
		const { expires: _expires, ...timeless } = challengeOf(sessionTerms(stage, PAYEE));
		const challenge = { ...timeless, ...(expires !== undefined && { expires }) };
		const token = { chainId: stage.chain.chainId, token: stage.token };
		const { validBefore } = await signer.authorize("transfer", challenge, token, TRANSFER);
		expect(validBefore).toBe(BigInt(NOW / 1_000 + seconds));
		const permit = { permitted: { token: stage.token, amount: 1n }, spender: stage.escrow, nonce: 1n };
		const at = { chainId: stage.chain.chainId, permit2: CANONICAL_PERMIT2 };
		const witness = { channelId: `0x${"c1".repeat(32)}` as const };
		const deposit = await signer.permitChannel(challenge, at, { ...permit, witness });
		expect(deposit.permit.deadline).toBe(validBefore);
		const payment = {
			...permit,
			permitted: [permit.permitted],
			witness: { challengeHash: TRANSFER.nonce, externalId: "" },
		};
		expect((await signer.permitPayment(challenge, at, payment)).deadline).toBe(validBefore);
	});

	it("is not signed for a token that is none: its domain is read from the payer's node", async () => {
		const { spy, signer } = await signerFor();
		const challenge = challengeOf(sessionTerms(stage, PAYEE));
		for (const token of [STRANGER, stage.escrow]) {
			const signing = signer.authorize("receive", challenge, { chainId: stage.chain.chainId, token }, TRANSFER);
			expect(await codeOf(signing)).toBe("TOKEN_UNUSABLE");
		}
		expect(spy.signed).toEqual([]);
	});

	it("is not signed for another chain than the payer's node is on", async () => {
		const { spy, signer } = await signerFor();
		const challenge = challengeOf(sessionTerms(stage, PAYEE));
		const { token } = stage;
		// The same token address, first where it is: what is remembered of it must not serve the other chain.
		await signer.authorize("receive", challenge, { chainId: stage.chain.chainId, token }, TRANSFER);
		const elsewhere = signer.authorize("receive", challenge, { chainId: 8_453, token }, TRANSFER);
		expect(await codeOf(elsewhere)).toBe("POLICY_REFUSED");
		expect(spy.deposits()).toHaveLength(1);
	});
});

describe("a permit", () => {
	const NONCE = 2n ** 255n + 7n;

	it("of a deposit names the escrow as its spender and the channel as its witness", async () => {
		const { signer } = await signerFor();
		const challenge = challengeOf(sessionTerms(stage, PAYEE));
		const at = { chainId: stage.chain.chainId, permit2: CANONICAL_PERMIT2 };
		const witness = { payee: PAYEE, salt: `0x${"5a".repeat(32)}` as Hex, authorizedSigner: ZERO_ADDRESS };
		const deposit = { permitted: { token: stage.token, amount: 5n }, spender: stage.escrow, nonce: NONCE, witness };
		const { permit, signature } = await signer.permitChannel(challenge, at, deposit);
		const digest = channelPermitDigest(createPermit2Domain(at.chainId, at.permit2), {
			...permit,
			spender: stage.escrow,
			witness,
		});
		expect(verifier.verifyDigest(signer.payer, digest, signature)).toBe("valid");
	});

	it("of a charge is signed over the draft's own type string, by an account that can (draft-evm-charge-00, Witness Data)", async () => {
		const { spy, signer } = await signerFor();
		const challenge = challengeOf(sessionTerms(stage, PAYEE));
		const at = { chainId: stage.chain.chainId, permit2: CANONICAL_PERMIT2 };
		const witness = { challengeHash: `0x${"0f".repeat(32)}` as Hex, externalId: "order 7" };
		const payment = { permitted: [{ token: stage.token, amount: 5n }], spender: PAYEE, nonce: NONCE, witness };
		const { deadline, signature } = await signer.permitPayment(challenge, at, payment);
		const domain = createPermit2Domain(at.chainId, at.permit2);
		const verdictOf = (form: "draft" | "eip712") =>
			verifier.verifyDigest(signer.payer, paymentPermitDigest(domain, { ...payment, deadline }, form), signature);
		expect([verdictOf("draft"), verdictOf("eip712")]).toEqual(["valid", "signer-mismatch"]);
		expect(spy.hashes).toHaveLength(1);
	});
});

describe("the payer's own transactions", () => {
	const opening = (payer: Address, deposit: bigint) => {
		const channel = channelOf(payer);
		const calls = [
			approveCall(stage.token, stage.escrow, deposit),
			openCall(stage.escrow, { ...channel.parameters, deposit }),
		];
		return { ...channel, deposit, calls };
	};

	it("open several channels at once: neither nonces nor allowances get in each other's way", async () => {
		const { spy, signer, nodes } = await signerFor({ gas: true, now: Date.now });
		const wallet = await nodes.wallet(stage.chain.chainId);
		const openings = [1n, 2n, 3n].map((deposit) => opening(signer.payer, deposit));
		const hashes = new Set<string>();
		await Promise.all(openings.map(({ calls }) => wallet.send(calls, "open", ({ hash }) => void hashes.add(hash))));
		expect(hashes.size).toBe(3);
		for (const { channelId, deposit } of openings) {
			const onChain = await readChannel(stage.chain.client, stage.escrow, channelId);
			expect(onChain).toMatchObject({ deposit, payer: signer.payer, payee: PAYEE, authorizedSigner: ZERO_ADDRESS });
		}
		expect(spy.transactions.map(({ nonce }) => nonce)).toEqual([0, 1, 2, 3, 4, 5]);
	});

	it("do not stop the next one when one fails", async () => {
		const { signer, nodes } = await signerFor({ gas: true, now: Date.now });
		const wallet = await nodes.wallet(stage.chain.chainId);
		const [failed, opened] = await Promise.allSettled([
			wallet.send(opening(signer.payer, 10n ** 30n).calls, "open"),
			wallet.send(opening(signer.payer, 5n).calls, "open"),
		]);
		expect(failed).toMatchObject({ status: "rejected", reason: { code: "TRANSACTION_REVERTED" } });
		expect(opened.status).toBe("fulfilled");
	});

	it("are not signed for another chain than the payer's node is on (I11)", async () => {
		const { spy, nodes } = await signerFor({ gas: true });
		expect(await codeOf(nodes.wallet(8_453))).toBe("POLICY_REFUSED");
		expect(spy.transactions).toEqual([]);
	});

	it("that others are to broadcast lose no nonce: the next one follows it, or stands in its place", async () => {
		const { spy, nodes } = await signerFor({ gas: true, now: Date.now });
		const wallet = await nodes.wallet(stage.chain.chainId);
		const call = { ...transferCall(stage.token, PAYEE, 3n), to: stage.token };
		const nonces: (number | undefined)[] = [];
		await wallet.lend(call, async ({ raw }) => nonces.push(parseTransaction(raw).nonce));
		// Nobody broadcast it.
		await wallet.lend(call, async ({ raw, hash, nonce }) => {
			nonces.push(parseTransaction(raw).nonce);
			await stage.chain.client.sendRawTransaction({ serializedTransaction: raw });
			await mined(stage.chain.client, hash);
			expect(await wallet.stateOf({ hash, nonce })).toBe("mined");
		});
		await wallet.send([call], "charge");
		expect([...nonces.map((nonce) => nonce ?? 0), spy.transactions.at(-1)?.nonce]).toEqual([0, 0, 1]);
		expect(await wallet.stateOf({ hash: `0x${"7b".repeat(32)}`, nonce: 0 })).toBe("passed");
		expect(await wallet.stateOf({ hash: `0x${"7b".repeat(32)}`, nonce: 2 })).toBe("open");
	});

	it("count as passed over only when that was seen again and again: one node may lag behind another", async () => {
		const { spy, nodes } = await signerFor({ gas: true, now: Date.now });
		const { client, chainId } = stage.chain;
		const call = transferCall(stage.token, PAYEE, 3n);
		let sent: SentTransaction | undefined;
		await (await nodes.wallet(chainId)).send([call], "charge", (one) => {
			sent = one;
		});
		if (sent === undefined) throw new Error("nothing was sent");
		let looks = 0;
		const lagging: typeof client = {
			...client,
			getTransactionReceipt: async ({ hash }) => {
				looks++;
				if (looks < 4) throw new TransactionReceiptNotFoundError({ hash });
				return client.getTransactionReceipt({ hash });
			},
		};
		const wallet = new Wallet({ account: spy.account, chainId, client: lagging, now: Date.now });
		expect(await wallet.stateOf(sent)).toBe("mined");
		expect(looks).toBe(4);
	});

	it("are named with their payer, which the credential needs (draft-evm-session-00, Open Payload)", async () => {
		const { source, payload, channel } = await openedBefore(async (wallet, channel) =>
			wallet.send([transferCall(stage.token, PAYEE, 1n)], "open", (sent) => {
				channel.funding = sent;
			}),
		);
		expect(source).toBe(`did:pkh:eip155:${stage.chain.chainId}:${getAddress(channel.parameters.payer)}`);
		const hash = channel.funding?.hash;
		expect(parseSessionPayload(payload)).toMatchObject({ action: "open", type: "hash", hash, cumulativeAmount: 4n });
	});

	it("that opened a channel are sent anew where another one took their place, with the same salt: one deposit (I4)", async () => {
		const lost: Hex = `0x${"7b".repeat(32)}`;
		const { payload, channel, spy } = await openedBefore(async (wallet, channel) => {
			await wallet.send([transferCall(stage.token, PAYEE, 1n)], "charge");
			channel.funding = { hash: lost, nonce: 0 };
		});
		expect(channel.funding?.hash).not.toBe(lost);
		expect(parseSessionPayload(payload)).toMatchObject({ hash: channel.funding?.hash });
		expect(spy.transactions).toHaveLength(3);
		expect(await stage.onChain(channel.channelId)).toMatchObject({ deposit: 5n });
	});

	/** The credential of an opening by the payer's own transaction, of which `before` says what became of it. */
	async function openedBefore(before: (wallet: Wallet, channel: PayerChannel) => Promise<void>) {
		const { spy, signer, nodes, now } = await signerFor({ gas: true, now: Date.now });
		const parts = fundingParts(signer, nodes, now);
		const terms = sessionTerms(stage, PAYEE, {}, { credentialTypes: ["hash"] });
		const channel = new PayerChannel({
			...channelOf(signer.payer),
			deposit: 5n,
			resource: { url: "https://a.example/", method: "GET" },
		});
		await before(await nodes.wallet(stage.chain.chainId), channel);
		const challenge = challengeOf(terms);
		await parts.keeper.add(keyOfChannel(channel), channel, 1);
		const credential = await openCredential(parts, challenge, channel, parseSessionRequest(terms), 4n);
		return { ...parseCredential(credential), channel, spy };
	}
});

describe("an opening by authorization", () => {
	it("is bound to its channel by its nonce, to the escrow, and to the first voucher (draft-evm-session-00, Front-Running Protection)", async () => {
		const { signer, nodes, now } = await signerFor();
		const parts = fundingParts(signer, nodes, now);
		const terms = sessionTerms(stage, PAYEE);
		const { parameters, channelId } = channelOf(signer.payer);
		const resource = { url: "https://a.example/", method: "GET" };
		const channel = new PayerChannel({ parameters, channelId, deposit: 5n, resource });
		await parts.keeper.add(keyOfChannel(channel), channel, 1);
		const text = await openCredential(parts, challengeOf(terms), channel, parseSessionRequest(terms), 4n);
		const payload = parseSessionPayload(parseCredential(text).payload);
		if (payload.action !== "open" || payload.type !== "authorization") throw new Error("another payload");
		expect(payload.authorization).toMatchObject({
			to: stage.escrow,
			value: 5n,
			nonce: openAuthorizationNonce({ from: signer.payer, ...parameters }),
		});
		const voucher = { channelId, cumulativeAmount: 4n };
		const domain = createVoucherDomain(stage.chain.chainId, stage.escrow);
		expect(verifier.verifyVoucher(domain, signer.payer, voucher, payload.voucherSignature)).toBe("valid");
	});
});

describe("the names that a token signs with", () => {
	it("come from the client's configuration where it has them, and are checked against the token's separator", async () => {
		const { signer } = await signerFor({ tokenName: "USD Coin" });
		const { chainId } = stage.chain;
		expect(await signer.tokenDomain(stage.token, chainId)).toMatchObject({ name: "USD Coin", version: "2" });
	});

	it("that are wrong keep anything from being signed, and the error says what to change", async () => {
		const { signer, spy } = await signerFor({ tokenName: "USDX" });
		await expect(signer.tokenDomain(stage.token, stage.chain.chainId)).rejects.toMatchObject({
			code: "TOKEN_UNUSABLE",
			message: expect.stringMatching(/does not sign with the EIP-712 domain of the configured name "USDX".*fix them/),
		});
		expect(spy.signed).toEqual([]);
	});
});
