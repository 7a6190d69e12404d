import { createPublicClient, custom, type Hex, type PublicClient, toHex, zeroAddress } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { approveCall, openCall, transferWithAuthorizationCall } from "../../src/escrow/calls.ts";
import { closeCall } from "../../src/escrow/payeeCalls.ts";
import {
	EscrowUnusableError,
	hasCode,
	MIN_CLOSE_GRACE_SECONDS,
	readAuthorizationState,
	readBalance,
	readChannel,
	readEscrow,
	readTokenDomain,
} from "../../src/escrow/reads.ts";
import {
	CANONICAL_PERMIT2,
	computeChannelId,
	createVoucherDomain,
	signAuthorization,
	signVoucher,
} from "../../src/voucher/index.ts";
import { createStage, FUNDS, rpc, type Stage, sendAs, setBalance } from "./support.ts";

const UNKNOWN: Hex = `0x${"99".repeat(32)}`;

let stage: Stage;
let client: PublicClient;

beforeAll(async () => {
	stage = await createStage();
	client = stage.chain.client;
});
afterAll(() => stage?.chain.stop());

async function openChannel(salt: Hex, authorizedSigner = zeroAddress as Hex) {
	const { chain, escrow, token, payer } = stage;
	const payee = chain.account(3);
	await sendAs(chain, payer, approveCall(token, escrow, 500n));
	await sendAs(chain, payer, openCall(escrow, { payee: payee.address, token, deposit: 500n, salt, authorizedSigner }));
	const parameters = {
		payer: payer.address.toLowerCase() as Hex,
		payee: payee.address.toLowerCase() as Hex,
		token,
		salt,
		authorizedSigner,
		escrow,
		chainId: chain.chainId,
	};
	return { channelId: computeChannelId(parameters), parameters, payee };
}

describe("readChannel", () => {
	it("has nothing to say of a channel that the escrow does not know", async () => {
		expect(await readChannel(client, stage.escrow, UNKNOWN)).toBeUndefined();
	});

	it("reads all eight fields, addresses in lower case", async () => {
		const signer = stage.chain.account(5).address;
		const { channelId, parameters } = await openChannel(`0x${"01".repeat(32)}`, signer);
		expect(await readChannel(client, stage.escrow, channelId)).toEqual({
			payer: parameters.payer,
			payee: parameters.payee,
			token: stage.token,
			authorizedSigner: signer.toLowerCase(),
			deposit: 500n,
			settled: 0n,
			closeRequestedAt: 0,
			finalized: false,
		});
	});

	it("still knows a channel that was closed, as finalized and settled", async () => {
		const { chain, escrow, payer } = stage;
		const { channelId, payee } = await openChannel(`0x${"02".repeat(32)}`);
		const voucher = { channelId, cumulativeAmount: 123n };
		const signature = await signVoucher(payer, createVoucherDomain(chain.chainId, escrow), voucher);
		await sendAs(chain, payee, closeCall(escrow, channelId, 123n, signature));
		expect(await readChannel(client, escrow, channelId)).toMatchObject({
			deposit: 500n,
			settled: 123n,
			finalized: true,
		});
	});

	it("fails, and does not say `unknown channel`, when there is no escrow at the address", async () => {
		await expect(readChannel(client, stage.chain.account(7).address, UNKNOWN)).rejects.toThrow();
	});
});

describe("readEscrow (D17)", () => {
	const refusal = (escrow: Hex, chainId = stage.chain.chainId) =>
		readEscrow(client, escrow, chainId).then(
			() => {
				throw new Error("the escrow was accepted");
			},
			(error: unknown) => {
				expect(error).toBeInstanceOf(EscrowUnusableError);
				expect(error).toMatchObject({ code: "ESCROW_UNUSABLE" });
				return (error as Error).message;
			},
		);

	/** A contract that answers every call with one number. */
	async function contractThatSays(number: number): Promise<Hex> {
		const address = `0x${number.toString(16).padStart(40, "0")}` as const;
		const code = `0x61${number.toString(16).padStart(4, "0")}5f5260205ff3`; // PUSH2 n PUSH0 MSTORE PUSH1 32 PUSH0 RETURN
		await rpc(client, "anvil_setCode", [address, code]);
		return address;
	}

	it("tells chain, grace period and Permit2 of a good escrow", async () => {
		expect(await readEscrow(client, stage.escrow, stage.chain.chainId)).toEqual({
			chainId: stage.chain.chainId,
			closeGraceSeconds: 900,
			permit2: "0x000000000022d473030f116ddee9f6b43ac78ba3",
			domainSeparator: toHex(createVoucherDomain(stage.chain.chainId, stage.escrow).separator),
			// As long as there is no Permit2 on this chain.
			relayed: { authorization: true, permit2: await hasCode(client, CANONICAL_PERMIT2) },
			relayedPayee: true,
		});
	});

	it("tells that nothing can be relayed by an escrow that does not list its optional functions", async () => {
		const core = await contractThatSays(900);
		expect((await readEscrow(client, core, stage.chain.chainId)).relayed).toEqual({
			authorization: false,
			permit2: false,
		});
	});

	it("refuses an RPC of another chain, and names both", async () => {
		expect(await refusal(stage.escrow, 8453)).toBe(
			`the RPC serves chain ${stage.chain.chainId}, not 8453; fix the RPC URL or the chain id`,
		);
	});

	it("refuses an address without code", async () => {
		const nobody = stage.chain.account(7).address;
		expect(await refusal(nobody)).toBe(
			`there is no contract at ${nobody} on chain ${stage.chain.chainId}; deploy the escrow or fix its address`,
		);
	});

	it("refuses a contract of another kind", async () => {
		expect(await refusal(stage.token)).toBe(
			`the contract at ${stage.token} does not answer as a PaymentChannelEscrow; fix its address`,
		);
	});

	it("refuses a grace period that is one second too short, and takes the shortest", async () => {
		const short = await contractThatSays(MIN_CLOSE_GRACE_SECONDS - 1);
		expect(await refusal(short)).toMatch(/grace period is 599 s, less than the 600 s/);
		const shortest = await contractThatSays(MIN_CLOSE_GRACE_SECONDS);
		expect(await readEscrow(client, shortest, stage.chain.chainId)).toMatchObject({ closeGraceSeconds: 600 });
	});

	it("does not blame the escrow for a node that fails after its first answers", async () => {
		const request = async ({ method, params }: { method: string; params?: unknown }) => {
			if (method === "eth_call") throw new Error("connection reset");
			return client.request({ method, params } as never);
		};
		const failing = createPublicClient({ transport: custom({ request }, { retryCount: 0 }) });
		const error = await readEscrow(failing, stage.escrow, stage.chain.chainId).catch((thrown: unknown) => thrown);
		expect(error).toBeInstanceOf(Error);
		expect(error).not.toBeInstanceOf(EscrowUnusableError);
	});
});

describe("token reads", () => {
	it("reads the domain that the token signs with", async () => {
		const { token, chain } = stage;
		expect(await readTokenDomain(client, token, chain.chainId)).toEqual({
			name: "USD Coin",
			version: "2",
			chainId: chain.chainId,
			verifyingContract: token,
		});
	});

	it("refuses what is no ERC-3009 token, or signs with another domain than it states", async () => {
		const { token, escrow, chain } = stage;
		await expect(readTokenDomain(client, escrow, chain.chainId)).rejects.toMatchObject({ code: "TOKEN_UNUSABLE" });
		await expect(readTokenDomain(client, token, 8_453)).rejects.toThrow(/does not sign with the usual EIP-712 domain/);
	});

	it("reads balances and whether an authorization was used", async () => {
		const { chain, token, payer } = stage;
		const [from, to] = [payer.address, chain.account(4).address];
		const before = await readBalance(client, token, from);
		expect(before).toBeLessThanOrEqual(FUNDS);
		const nonce: Hex = `0x${"44".repeat(32)}`;
		expect(await readAuthorizationState(client, token, from, nonce)).toBe(false);

		const domain = await readTokenDomain(client, token, chain.chainId);
		const authorization = { from, to, value: 7n, validAfter: 0n, validBefore: 2n ** 40n, nonce };
		const signature = await signAuthorization("transfer", payer, domain, authorization);
		const relayer = chain.account(6);
		await setBalance(client, relayer.address, 10n ** 18n);
		await sendAs(chain, relayer, transferWithAuthorizationCall(token, { ...authorization, signature }));
		expect(await readAuthorizationState(client, token, from, nonce)).toBe(true);
		expect(await readBalance(client, token, from)).toBe(before - 7n);
		expect(await readBalance(client, token, to)).toBe(7n);
	});
});
