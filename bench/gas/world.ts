/** A chain with the token, the escrow and people who already hold the token, on which whole transactions are weighed. */

import {
	type Abi,
	type Address,
	createWalletClient,
	encodeDeployData,
	encodeFunctionData,
	type Hex,
	http,
	keccak256,
	type LocalAccount,
	pad,
	toHex,
	type WalletClient,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { CANONICAL_PERMIT2, REFERENCE_GRACE_SECONDS } from "../../deploy/index.ts";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { awaitReceipt } from "../../src/escrow/confirmations.ts";
import { paymentChannelEscrowAbi, paymentChannelEscrowBytecode } from "../../src/escrow/generated/escrow.ts";
import {
	computeChannelId,
	createVoucherDomain,
	openAuthorizationNonce,
	signAuthorization,
	signVoucher,
	type TokenDomain,
	topUpAuthorizationNonce,
	type VoucherDomain,
	voucherTypedDataDomain,
	ZERO_ADDRESS,
} from "../../src/voucher/index.ts";

/** 5 USDC, in base units. */
export const DEPOSIT = 5_000_000n;

const ALREADY_HELD = 1_000_000n;
/** What payer and payee hold. */
export const RICH = 10n ** 15n;
const IN_2100 = 4_102_444_800n;

export type Channel = Readonly<{ channelId: Hex; payer: LocalAccount; signer: LocalAccount }>;

/** A transaction that was mined: what it cost in all, and how many bytes it carried. */
export type Weighed = Readonly<{ gas: number; bytes: number }>;

export type World = Awaited<ReturnType<typeof createWorld>>;

/**
 * Starts a chain with cancun's rules, on which a token with EIP-3009 is deployed from its creation code and `approval`
 * base units of it approved. Everything that shows in a transaction's bytes is fixed (keys, salts, times), so
 * the same contract gives the same figures everywhere.
 */
export async function createWorld(tokenBytecode: Hex, approval: bigint) {
	const chain = await startChain({ args: ["--hardfork", "cancun", "--base-fee", "0", "--timestamp", "1750000000"] });
	try {
		return await furnish(chain, tokenBytecode, approval);
	} catch (error) {
		await chain.stop();
		throw error;
	}
}

async function furnish(chain: LocalChain, tokenBytecode: Hex, approval: bigint) {
	const { client, chainId } = chain;
	const deployer = chain.account(0);
	const payer = chain.account(1);
	const payee = chain.account(2);
	const relayer = chain.account(3);
	const wallets = new Map<Address, WalletClient>();
	let salts = 0;

	async function send(from: LocalAccount, to: Address | null, data: Hex): Promise<Weighed & { created?: Address }> {
		const wallet = wallets.get(from.address) ?? createWalletClient({ account: from, transport: http(chain.url) });
		wallets.set(from.address, wallet);
		const hash = await wallet.sendTransaction({ account: from, to, data, chain: null, gas: 10_000_000n, gasPrice: 0n });
		const receipt = await awaitReceipt(client, hash, { pollMs: 10 });
		if (receipt?.status !== "success") throw new Error(`a transaction to be weighed was reverted: ${hash}`);
		const created = receipt.contractAddress;
		return { gas: Number(receipt.gasUsed), bytes: (data.length - 2) / 2, ...(created && { created }) };
	}

	async function deploy(abi: Abi, bytecode: Hex, args: readonly unknown[]): Promise<Address> {
		const { created } = await send(deployer, null, encodeDeployData({ abi, bytecode, args }));
		if (created === undefined) throw new Error("a deployment made no contract");
		return created.toLowerCase() as Address;
	}

	const token = await deploy(testUsdcAbi, tokenBytecode, []);
	const escrow = await deploy(paymentChannelEscrowAbi, paymentChannelEscrowBytecode, [
		BigInt(REFERENCE_GRACE_SECONDS),
		CANONICAL_PERMIT2,
	]);
	const domain: VoucherDomain = createVoucherDomain(chainId, escrow);
	const tokenDomain: TokenDomain = { name: "USD Coin", version: "2", chainId, verifyingContract: token };

	const toToken = (from: LocalAccount, functionName: "mint" | "approve", args: readonly [Address, bigint]) =>
		send(from, token, encodeFunctionData({ abi: testUsdcAbi, functionName, args }));

	/** The data of a call of the escrow. */
	// biome-ignore lint/suspicious/noExplicitAny: viem checks name and arguments against each other where they are given
	const toEscrow = (from: LocalAccount, functionName: any, args: any) =>
		send(from, escrow, encodeFunctionData({ abi: paymentChannelEscrowAbi, functionName, args }));

	const nextSalt = () => keccak256(toHex(`salt ${++salts}`));

	function channelOf(from: LocalAccount, salt: Hex, signer?: LocalAccount): Channel & { authorizedSigner: Address } {
		const authorizedSigner = signer?.address ?? ZERO_ADDRESS;
		const parties = { payer: from.address, payee: payee.address, token, salt, authorizedSigner };
		const channelId = computeChannelId({ ...parties, escrow, chainId });
		return { channelId, payer: from, signer: signer ?? from, authorizedSigner };
	}

	async function open(signer?: LocalAccount): Promise<Channel & Weighed> {
		const salt = nextSalt();
		const channel = channelOf(payer, salt, signer);
		const args = [payee.address, token, DEPOSIT, salt, channel.authorizedSigner];
		return { ...channel, ...(await toEscrow(payer, "open", args)) };
	}

	function authorize(from: LocalAccount, value: bigint, nonce: Hex): Promise<Hex> {
		const authorization = { from: from.address, to: escrow, value, validAfter: 0n, validBefore: IN_2100, nonce };
		return signAuthorization("receive", from, tokenDomain, authorization);
	}

	async function openWithAuthorization(from: LocalAccount): Promise<Channel & Weighed> {
		const salt = nextSalt();
		const channel = channelOf(from, salt);
		const { authorizedSigner } = channel;
		const nonce = openAuthorizationNonce({ from: from.address, payee: payee.address, token, salt, authorizedSigner });
		const signature = await authorize(from, DEPOSIT, nonce);
		const parameters = [payee.address, token, DEPOSIT, salt, authorizedSigner];
		const args = [...parameters, from.address, 0n, IN_2100, nonce, signature];
		return { ...channel, ...(await toEscrow(relayer, "openWithAuthorization", args)) };
	}

	async function topUpWithAuthorization({ channelId, payer }: Channel): Promise<Weighed> {
		const topUpSalt = nextSalt();
		const nonce = topUpAuthorizationNonce({ channelId, additionalDeposit: DEPOSIT, from: payer.address, topUpSalt });
		const signature = await authorize(payer, DEPOSIT, nonce);
		const args = [channelId, DEPOSIT, payer.address, topUpSalt, 0n, IN_2100, nonce, signature];
		return toEscrow(relayer, "topUpWithAuthorization", args);
	}

	const voucher = ({ channelId, signer }: Channel, cumulativeAmount: bigint) =>
		signVoucher(signer, domain, { channelId, cumulativeAmount });

	async function relay(action: "settle" | "close", channel: Channel, amount: bigint, nonce: bigint): Promise<Weighed> {
		const { channelId } = channel;
		const deadline = IN_2100;
		const primaryType = action === "settle" ? "SettleAuthorization" : "CloseAuthorization";
		const members = [
			{ name: "channelId", type: "bytes32" },
			{ name: "cumulativeAmount", type: "uint128" },
			{ name: "nonce", type: "uint256" },
			{ name: "deadline", type: "uint256" },
		];
		const payeeSignature = await payee.signTypedData({
			domain: voucherTypedDataDomain(domain),
			types: { [primaryType]: members },
			primaryType,
			message: { channelId, cumulativeAmount: amount, nonce, deadline },
		});
		const args = [channelId, amount, nonce, deadline, payeeSignature, await voucher(channel, amount)];
		return toEscrow(relayer, `${action}WithAuthorization`, args);
	}

	/** Settles or closes many channels at once, each with a payer of its own who already holds some of the token. */
	async function batch(functionName: "settleMany" | "closeMany", rows: number): Promise<Weighed> {
		const packed = [];
		for (let row = 0; row < rows; row++) {
			const from = privateKeyToAccount(pad(toHex(0xbadc_0de0_0000n + BigInt(++salts)), { size: 32 }));
			await toToken(deployer, "mint", [from.address, DEPOSIT + ALREADY_HELD]);
			const channel = await openWithAuthorization(from);
			const cumulativeAmount = 1_234_567n + BigInt(row);
			const signature = await voucher(channel, cumulativeAmount);
			const r = signature.slice(0, 66) as Hex;
			const s = BigInt(`0x${signature.slice(66, 130)}`);
			const parity = BigInt(`0x${signature.slice(130)}`) - 27n;
			packed.push({ channelId: channel.channelId, cumulativeAmount, r, vs: toHex(s | (parity << 255n), { size: 32 }) });
		}
		return toEscrow(payee, functionName, [packed]);
	}

	// Everyone holds some already, the route is known, and the escrow holds the money of a channel that stays.
	for (const holder of [payer, payee]) await toToken(deployer, "mint", [holder.address, RICH]);
	await toToken(payer, "approve", [escrow, approval]);
	await open();

	return {
		payer,
		payee,
		relayer,
		delegate: chain.account(4),
		toEscrow,
		open,
		openWithAuthorization,
		topUpWithAuthorization,
		voucher,
		relay,
		batch,
		passGracePeriod: async () => {
			// biome-ignore lint/suspicious/noExplicitAny: the development chain's own method
			await client.request({ method: "evm_increaseTime", params: [REFERENCE_GRACE_SECONDS] } as any);
		},
		stop: () => chain.stop(),
	};
}
