/** What a payer sends besides opening by authorization: Permit2, top-ups, deposits merged with vouchers, contract accounts. */
import { randomBytes } from "node:crypto";
import {
	type Address,
	encodeDeployData,
	encodeFunctionData,
	getContractAddress,
	type Hex,
	type LocalAccount,
	type PublicClient,
} from "viem";
import { testUsdcAbi, testUsdcBytecode } from "../../src/cli/demo/generated/testUsdc.ts";
import { approveCall, type Call, openCall, topUpCall } from "../../src/escrow/calls.ts";
import { type Challenge, formatSource, toWire } from "../../src/protocol/index.ts";
import {
	type Authorization,
	CANONICAL_PERMIT2,
	type ChannelPermit,
	createPermit2Domain,
	signAuthorization,
	signChannelPermit,
	topUpAuthorizationNonce,
} from "../../src/voucher/index.ts";
import { smartAccountAbi, smartAccountBytecode } from "./generated/smartAccount.ts";
import { Clock, type PaidServer } from "./paidServer.ts";
import { type Draft, Payer, type Signing, sendFrom, signerMember, type TestChannel, validBefore } from "./payer.ts";
import type { World } from "./world.ts";

/** A server's clock that stands still but for what it is advanced: what happens within one second of it is no race. */
export class StillClock extends Clock {
	#at = Date.now();
	override readonly now = (): number => this.#at;
	override advance(ms: number): void {
		this.#at += ms;
	}
}

/** A call of the development chain that viem's types do not know. */
export function rpc(client: PublicClient, method: string, params: readonly unknown[] = []): Promise<unknown> {
	return client.request({ method, params } as never);
}

/** Lets Permit2 move up to `value` of the payer's tokens. */
export async function approvePermit2({ token }: World, payer: Payer, value = 2n ** 256n - 1n): Promise<void> {
	await payer.sendBlind(approveCall(token, CANONICAL_PERMIT2, value));
}

/** A payer with tokens who has approved Permit2; it has gas, too. */
export async function approvedPayer(world: World, options: Readonly<{ funds?: bigint }> = {}): Promise<Payer> {
	const payer = await world.payer({ ...options, gas: true });
	await approvePermit2(world, payer);
	return payer;
}

/** Members that replace the right ones; they are signed as well. `signer` signs instead of the payer. */
export type PermitOptions = Readonly<{
	signer?: LocalAccount;
	permit?: Partial<ChannelPermit>;
	from?: Address;
	permit2?: Address;
}>;

const nonce = () => BigInt(`0x${randomBytes(31).toString("hex")}`);

/** `action="open"`, `type="permit2"`. */
export async function openByPermit2(
	payer: Payer,
	challenge: Challenge,
	channel: TestChannel,
	options: PermitOptions & Readonly<{ deposit: bigint; amount?: bigint; voucher?: Signing }>,
): Promise<Draft> {
	const { payee, salt, authorizedSigner, channelId } = channel;
	const { deposit, amount = 0n, voucher } = options;
	const signed = await signedPermit(payer, challenge, channel, deposit, { payee, salt, authorizedSigner }, options);
	return {
		challenge,
		payload: {
			action: "open",
			type: "permit2",
			channelId,
			...signed,
			cumulativeAmount: String(amount),
			voucherSignature: await payer.sign(channel, amount, voucher),
			...signerMember(channel),
			salt,
		},
	};
}

/** `action="topUp"`, `type="permit2"`. */
export async function topUpByPermit2(
	payer: Payer,
	challenge: Challenge,
	channel: TestChannel,
	amount: bigint,
	options: PermitOptions = {},
): Promise<Draft> {
	const { channelId } = channel;
	const signed = await signedPermit(payer, challenge, channel, amount, { channelId }, options);
	const payload = { action: "topUp", type: "permit2", channelId, additionalDeposit: String(amount), ...signed };
	return { challenge, payload };
}

export type TopUpOptions = Readonly<{ signer?: LocalAccount; salt?: Hex; authorization?: Partial<Authorization> }>;

/** `action="topUp"`, `type="authorization"`. */
export async function topUpByAuthorization(
	payer: Payer,
	challenge: Challenge,
	{ channelId, escrow }: TestChannel,
	amount: bigint,
	options: TopUpOptions = {},
): Promise<Draft> {
	const { signer = payer.account, salt = `0x${randomBytes(32).toString("hex")}` as Hex } = options;
	const from = payer.address;
	const authorization: Authorization = {
		from,
		to: escrow,
		value: amount,
		validAfter: 0n,
		validBefore: validBefore(challenge),
		nonce: topUpAuthorizationNonce({ channelId, additionalDeposit: amount, from, topUpSalt: salt }),
		...options.authorization,
	};
	return {
		challenge,
		payload: {
			action: "topUp",
			type: "authorization",
			channelId,
			salt,
			authorization: toWire(authorization),
			signature: await signAuthorization("receive", signer, payer.tokenDomain, authorization),
			additionalDeposit: String(amount),
		},
	};
}

/** `action="topUp"`, `type="hash"`. */
export function topUpByHash(
	payer: Payer,
	challenge: Challenge,
	{ channelId, chainId }: TestChannel,
	hash: Hex,
	amount: bigint,
): Draft {
	const payload = { action: "topUp", type: "hash", channelId, hash, additionalDeposit: String(amount) };
	return { challenge, payload, source: formatSource(chainId, payer.address) };
}

/** Tops up by the payer's own transactions; resolves to the hash of the one that did. */
export async function topUpOnChain(payer: Payer, { escrow, token, channelId }: TestChannel, amount: bigint) {
	await payer.sendBlind(approveCall(token, escrow, amount));
	return payer.sendBlind(topUpCall(escrow, channelId, amount));
}

/** A voucher with the deposit of an `open` or a `topUp` merged into it. */
export function merged(voucher: Draft, deposit: Draft): Draft {
	const { action, type, authorization, signature, salt, authorizedSigner } = deposit.payload;
	const parts = { action, type, authorization, signature, salt, authorizedSigner };
	return { ...voucher, payload: { ...voucher.payload, deposit: parts } };
}

async function signedPermit(
	payer: Payer,
	challenge: Challenge,
	{ chainId, escrow, token }: TestChannel,
	amount: bigint,
	witness: ChannelPermit["witness"],
	{ signer = payer.account, permit = {}, from = payer.address, permit2 = CANONICAL_PERMIT2 }: PermitOptions,
) {
	const signed: ChannelPermit = {
		permitted: { token, amount },
		spender: escrow,
		nonce: nonce(),
		deadline: validBefore(challenge),
		witness,
		...permit,
	};
	const { permitted, nonce: used, deadline, witness: said } = signed;
	return {
		authorization: { from, ...(toWire({ permitted, nonce: used, deadline, witness: said }) as object) },
		signature: await signChannelPermit(signer, createPermit2Domain(chainId, permit2), signed),
	};
}

/** Deploys another token, of which `holder` has `funds`. */
export async function deployToken({ chain }: World, holder: Payer, funds = 1_000_000n): Promise<Address> {
	const { client, chainId } = chain;
	const data = encodeDeployData({ abi: testUsdcAbi, bytecode: testUsdcBytecode });
	const { contractAddress } = await client.getTransactionReceipt({
		hash: await sendFrom({ client, chainId }, holder.account, { to: null, data }, 10_000_000n),
	});
	const token = contractAddress?.toLowerCase() as Address;
	const mint = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [holder.address, funds] });
	await sendFrom({ client, chainId }, holder.account, { to: token, data: mint });
	return token;
}

/** A contract account for which `owner` signs and whose transactions anyone sends. */
export type SmartPayer = Readonly<{
	payer: Payer;
	/** Has the account do these, through another contract, as an ERC-4337 EntryPoint does; the hash of the outer transaction. */
	perform(calls: readonly Call[]): Promise<Hex>;
	openOnChain(channel: TestChannel, deposit: bigint): Promise<Hex>;
	topUpOnChain(channel: TestChannel, amount: bigint): Promise<Hex>;
}>;

/** Deploys a contract account with `funds` of the token. Its owner, a payer with gas, sends what it does. */
export async function createSmartPayer(world: World, owner: Payer, funds = 1_000_000n): Promise<SmartPayer> {
	const { chain, token, escrow } = world;
	const { client, chainId } = chain;
	const deploy = async (): Promise<Address> => {
		const count = await client.getTransactionCount({ address: owner.address });
		const args = [owner.address] as const;
		const data = encodeDeployData({ abi: smartAccountAbi, bytecode: smartAccountBytecode, args });
		await sendFrom({ client, chainId }, owner.account, { to: null, data });
		return getContractAddress({ from: owner.address, nonce: BigInt(count) }).toLowerCase() as Address;
	};
	const [entryPoint, address] = [await deploy(), await deploy()];
	const mint = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [address, funds] });
	await sendFrom({ client, chainId }, owner.account, { to: token, data: mint });

	const execute = (calls: readonly Call[]): Hex => {
		const all = calls.map(({ to, data }) => ({ to: to ?? address, data }));
		return encodeFunctionData({ abi: smartAccountAbi, functionName: "execute", args: [all] });
	};
	const perform = (calls: readonly Call[]) => {
		const data = execute([{ to: address, data: execute(calls) }]);
		return sendFrom({ client, chainId }, owner.account, { to: entryPoint, data });
	};
	const { tokenDomain } = owner;
	const account = { ...owner.account, address };
	return {
		payer: new Payer({ account, client, chainId, escrow, token, tokenDomain }),
		perform,
		openOnChain: (channel, deposit) =>
			perform([approveCall(token, escrow, deposit), openCall(escrow, { ...channel, deposit })]),
		topUpOnChain: ({ channelId }, amount) =>
			perform([approveCall(token, escrow, amount), topUpCall(escrow, channelId, amount)]),
	};
}

/** Until `server.rpc.up()`, the node lets the server's calls pass with less gas than they take: once mined, they revert. */
export function spareGas({ rpc: proxy }: PaidServer): void {
	const gas = "0xc350";
	const fees = { maxFeePerGas: "0x77359400", maxPriorityFeePerGas: "0x1" };
	const filled = {
		raw: "0x",
		tx: { type: "0x2", chainId: "0x7a69", nonce: "0x0", value: "0x0", input: "0x", gas, ...fees },
	};
	proxy.lies = (method) => {
		if (method === "eth_estimateGas") return { result: gas };
		return method === "eth_fillTransaction" ? { result: filled } : undefined;
	};
}
