import type { Address } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CredentialSigner } from "../../src/client/sign.ts";
import { readChannel } from "../../src/escrow/index.ts";
import { formatTimestamp, parseChargeRequest, parseCredential, parseSessionPayload } from "../../src/protocol/index.ts";
import {
	authorizationDigest,
	type ChannelParameters,
	chargeNonce,
	computeChannelId,
	createVoucherDomain,
	createVoucherVerifier,
	openAuthorizationNonce,
	ZERO_ADDRESS,
} from "../../src/voucher/index.ts";
import { createWorld, type World } from "../support/world.ts";
import { challengeOf, codeOf, STRANGER, sessionTerms, spyOn } from "./support.ts";

const PAYEE: Address = `0x${"bb".repeat(20)}`;
const NOW = 1_800_000_000_000;
const verifier = createVoucherVerifier();

let world: World;
beforeAll(async () => {
	world = await createWorld();
});
afterAll(() => world.stop());

async function signerFor(options: { gas?: boolean; now?: () => number } = {}) {
	const payer = await world.payer(options);
	const spy = spyOn(payer.account);
	const signer = new CredentialSigner({
		account: spy.account,
		client: world.chain.client,
		now: options.now ?? (() => NOW),
	});
	return { payer, spy, signer };
}

function channelOf(payer: Address, changes: Partial<ChannelParameters> = {}) {
	const parameters: ChannelParameters = {
		payer,
		payee: PAYEE,
		token: world.token,
		salt: `0x${crypto.randomUUID().replaceAll("-", "").padEnd(64, "0")}`,
		authorizedSigner: ZERO_ADDRESS,
		escrow: world.escrow,
		chainId: world.chain.chainId,
		...changes,
	};
	return { parameters, channelId: computeChannelId(parameters) };
}

describe("a voucher", () => {
	it.each(["voucher", "close"] as const)(
		"of action %s is the payer's, for its channel, escrow and chain",
		async (action) => {
			const { signer } = await signerFor();
			const { parameters, channelId } = channelOf(signer.payer);
			const challenge = challengeOf(sessionTerms(world, PAYEE));
			const credential = parseCredential(await signer.voucher(action, challenge, { channelId, parameters }, 7n));
			expect(credential.challenge).toEqual(challenge);
			const payload = parseSessionPayload(credential.payload);
			if (payload.action !== action) throw new Error("another action");
			expect(payload).toMatchObject({ channelId, cumulativeAmount: 7n });
			const voucher = { channelId, cumulativeAmount: 7n };
			const verify = (chainId: number, escrow: Address) =>
				verifier.verifyVoucher(createVoucherDomain(chainId, escrow), signer.payer, voucher, payload.signature);
			expect(verify(world.chain.chainId, world.escrow)).toBe("valid");
			expect(verify(world.chain.chainId + 1, world.escrow)).toBe("signer-mismatch");
			expect(verify(world.chain.chainId, STRANGER)).toBe("signer-mismatch");
		},
	);
});

describe("an authorization of a deposit", () => {
	it("is bound to its channel, escrow and token, in the token's own domain", async () => {
		const { payer, signer } = await signerFor();
		const { parameters, channelId } = channelOf(signer.payer);
		const challenge = challengeOf(sessionTerms(world, PAYEE), { expires: formatTimestamp(NOW + 60_000) });
		const text = await signer.openByAuthorization(challenge, channelId, parameters, 500n, 3n);
		const payload = parseSessionPayload(parseCredential(text).payload);
		if (payload.action !== "open" || payload.type !== "authorization") throw new Error("another payload");
		const { authorization } = payload;
		expect(authorization).toEqual({
			from: payer.address,
			to: world.escrow,
			value: 500n,
			validAfter: 0n,
			validBefore: BigInt(NOW / 1_000 + 60),
			nonce: openAuthorizationNonce({ from: payer.address, ...parameters }),
		});
		const domain = {
			name: "USD Coin",
			version: "2",
			chainId: world.chain.chainId,
			verifyingContract: world.token,
		};
		const digest = authorizationDigest("receive", domain, authorization);
		expect(verifier.verifyDigest(payer.address, digest, payload.signature)).toBe("valid");
		const voucher = { channelId, cumulativeAmount: 3n };
		const vouchers = createVoucherDomain(world.chain.chainId, world.escrow);
		expect(verifier.verifyVoucher(vouchers, payer.address, voucher, payload.voucherSignature)).toBe("valid");
	});

	it.each([
		["as long as its challenge", formatTimestamp(NOW + 30_000), 30],
		["but never longer than five minutes (core, Amount Verification)", "9999-12-31T23:59:59Z", 300],
		["five minutes where the challenge does not say", undefined, 300],
		["not at all where the challenge is of the past", formatTimestamp(NOW - 10_000), -10],
	])("lives %s", async (_name, expires, seconds) => {
		const { spy, signer } = await signerFor();
		const { parameters, channelId } = channelOf(signer.payer);
		const { expires: _expires, ...timeless } = challengeOf(sessionTerms(world, PAYEE));
		const challenge = { ...timeless, ...(expires !== undefined && { expires }) };
		await signer.openByAuthorization(challenge, channelId, parameters, 500n, 3n);
		expect(spy.deposits()[0]?.validBefore).toBe(BigInt(NOW / 1_000 + seconds));
	});

	it("is not signed for a token that is none: its domain is read from the payer's node", async () => {
		const { spy, signer } = await signerFor();
		const challenge = challengeOf(sessionTerms(world, PAYEE));
		for (const token of [STRANGER, world.escrow]) {
			const { parameters, channelId } = channelOf(signer.payer, { token });
			expect(await codeOf(signer.openByAuthorization(challenge, channelId, parameters, 500n, 3n))).toBe(
				"TOKEN_UNUSABLE",
			);
		}
		expect(spy.signed).toEqual([]);
	});

	it("is not signed for another chain than the payer's node is on", async () => {
		const { spy, signer } = await signerFor();
		const challenge = challengeOf(sessionTerms(world, PAYEE));
		const here = channelOf(signer.payer);
		const elsewhere = channelOf(signer.payer, { chainId: 8_453 });
		const open = ({ parameters, channelId }: typeof here) =>
			signer.openByAuthorization(challenge, channelId, parameters, 500n, 3n);
		// The same token address, first where it is: what is remembered of it must not serve the other chain.
		await open(here);
		expect(await codeOf(open(elsewhere))).toBe("TOKEN_UNUSABLE");
		expect(spy.deposits()).toHaveLength(1);
	});
});

describe("the payer's own transactions", () => {
	it("open several channels at once: neither nonces nor allowances get in each other's way", async () => {
		const { spy, signer } = await signerFor({ gas: true, now: Date.now });
		const channels = [1n, 2n, 3n].map((deposit) => ({ deposit, ...channelOf(signer.payer) }));
		const hashes = new Set<string>();
		await Promise.all(
			channels.map(({ channelId, parameters, deposit }) =>
				signer.fund(channelId, parameters, deposit, (hash) => hashes.add(hash)),
			),
		);
		expect(hashes.size).toBe(3);
		for (const { channelId, deposit } of channels) {
			const onChain = await readChannel(world.chain.client, world.escrow, channelId);
			expect(onChain).toMatchObject({ deposit, payer: signer.payer, payee: PAYEE, authorizedSigner: ZERO_ADDRESS });
		}
		expect(spy.transactions).toHaveLength(6);
	});

	it("do not stop the next one when one fails", async () => {
		const { signer } = await signerFor({ gas: true, now: Date.now });
		const tooMuch = channelOf(signer.payer);
		const good = channelOf(signer.payer);
		const [failed, opened] = await Promise.allSettled([
			signer.fund(tooMuch.channelId, tooMuch.parameters, 10n ** 30n),
			signer.fund(good.channelId, good.parameters, 5n),
		]);
		expect(failed.status).toBe("rejected");
		expect(opened.status).toBe("fulfilled");
	});

	it("are not signed for another chain than the payer's node is on (I11)", async () => {
		const { spy, signer } = await signerFor({ gas: true });
		const { parameters, channelId } = channelOf(signer.payer, { chainId: 8_453 });
		expect(await codeOf(signer.fund(channelId, parameters, 5n))).toBe("POLICY_REFUSED");
		expect(spy.transactions).toEqual([]);
	});

	it("are named with their payer, which the credential needs (draft-evm-session-00, Open Payload)", async () => {
		const { signer } = await signerFor();
		const { parameters, channelId } = channelOf(signer.payer);
		const hash = `0x${"7b".repeat(32)}` as const;
		const challenge = challengeOf(sessionTerms(world, PAYEE));
		const { source, payload } = parseCredential(
			await signer.openByTransaction(challenge, channelId, parameters, hash, 4n),
		);
		expect(source).toBe(`did:pkh:eip155:${world.chain.chainId}:${signer.payer}`);
		expect(parseSessionPayload(payload)).toMatchObject({ action: "open", type: "hash", hash, cumulativeAmount: 4n });
	});
});

describe("a charge", () => {
	it("is for exactly the amount, to exactly the recipient, under exactly this challenge", async () => {
		const { spy, signer } = await signerFor();
		const terms = {
			amount: "250",
			currency: world.token,
			recipient: PAYEE,
			methodDetails: { chainId: world.chain.chainId, credentialTypes: ["authorization"] },
		};
		const challenge = challengeOf(terms, { intent: "charge", expires: "2100-01-01T00:00:00Z" });
		const { payload } = parseCredential(await signer.charge(challenge, parseChargeRequest(terms)));
		expect(spy.signed).toHaveLength(1);
		expect(spy.charges()[0]).toMatchObject({
			from: signer.payer,
			to: PAYEE,
			value: 250n,
			validBefore: BigInt(NOW / 1_000 + 300),
			nonce: chargeNonce(challenge.id, challenge.realm),
		});
		expect(payload).toMatchObject({ type: "authorization", value: "250", to: PAYEE });
	});
});

it("the spy sees what an account signs, transactions too", async () => {
	const { spy, signer } = await signerFor({ gas: true, now: Date.now });
	const { parameters, channelId } = channelOf(signer.payer);
	await signer.fund(channelId, parameters, 5n);
	expect(spy.transactions.map(({ to, chainId }) => [to, chainId])).toEqual([
		[world.token, world.chain.chainId],
		[world.escrow, world.chain.chainId],
	]);
});
