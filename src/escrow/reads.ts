import type { Address, Hex, PublicClient } from "viem";
import {
	type BaseError,
	ContractFunctionExecutionError,
	HttpRequestError,
	isAddressEqual,
	RpcError,
	TimeoutError,
	toHex,
	zeroAddress,
} from "viem";
import { domainSeparator, type TokenDomain } from "../voucher/index.ts";
import { erc3009Abi } from "./generated/erc3009.ts";
import { paymentChannelEscrowAbi } from "./generated/escrow.ts";

/** The shortest grace period a compliant escrow may have (draft-evm-session-00, Forced Close). */
export const MIN_CLOSE_GRACE_SECONDS = 600;

/** A channel as the escrow stores it. Amounts in base units of the token (draft-evm-session-00, Channel State). */
export type EscrowChannel = Readonly<{
	payer: Address;
	payee: Address;
	token: Address;
	authorizedSigner: Address;
	deposit: bigint;
	settled: bigint;
	/** Unix seconds, 0 when no close is requested. */
	closeRequestedAt: number;
	finalized: boolean;
}>;

/** What an escrow contract says of itself. */
export type EscrowFacts = Readonly<{
	chainId: number;
	closeGraceSeconds: number;
	permit2: Address;
	domainSeparator: Hex;
}>;

/** The address that was given as the escrow is not one that can be used (D17). */
export class EscrowUnusableError extends Error {
	override readonly name = "EscrowUnusableError";
	readonly code = "ESCROW_UNUSABLE";
}

/**
 * Reads a channel, `undefined` when the escrow has no record of it.
 *
 * @example
 * const channel = await readChannel(client, escrow, channelId);
 */
export async function readChannel(
	client: PublicClient,
	escrow: Address,
	channelId: Hex,
): Promise<EscrowChannel | undefined> {
	const channel = await client.readContract({
		address: escrow,
		abi: paymentChannelEscrowAbi,
		functionName: "getChannel",
		args: [channelId],
	});
	if (isAddressEqual(channel.payer, zeroAddress)) return undefined;
	return {
		payer: lower(channel.payer),
		payee: lower(channel.payee),
		token: lower(channel.token),
		authorizedSigner: lower(channel.authorizedSigner),
		deposit: channel.deposit,
		settled: channel.settled,
		closeRequestedAt: Number(channel.closeRequestedAt),
		finalized: channel.finalized,
	};
}

/**
 * Checks that an escrow can be trusted with channels: code is there, the chain is the expected one, the grace period is
 * long enough (draft-evm-session-00, Forced Close).
 *
 * @throws EscrowUnusableError saying what is wrong and what to change
 */
export async function readEscrow(client: PublicClient, escrow: Address, expectedChainId: number): Promise<EscrowFacts> {
	const [chainId, code] = await Promise.all([client.getChainId(), client.getCode({ address: escrow })]);
	if (chainId !== expectedChainId) {
		throw new EscrowUnusableError(
			`the RPC serves chain ${chainId}, not ${expectedChainId}; fix the RPC URL or the chain id`,
		);
	}
	if (code === undefined || code === "0x") {
		throw new EscrowUnusableError(
			`there is no contract at ${escrow} on chain ${chainId}; deploy the escrow or fix its address`,
		);
	}
	const escrowContract = { address: escrow, abi: paymentChannelEscrowAbi } as const;
	const [grace, permit2, domainSeparator] = await Promise.all([
		client.readContract({ ...escrowContract, functionName: "CLOSE_GRACE_PERIOD" }),
		client.readContract({ ...escrowContract, functionName: "PERMIT2" }),
		client.readContract({ ...escrowContract, functionName: "DOMAIN_SEPARATOR" }),
	]).catch((cause: unknown) => {
		if (!(cause instanceof ContractFunctionExecutionError) || isNodeFault(cause)) throw cause;
		throw new EscrowUnusableError(
			`the contract at ${escrow} does not answer as a PaymentChannelEscrow; fix its address`,
			{ cause },
		);
	});
	if (grace < BigInt(MIN_CLOSE_GRACE_SECONDS)) {
		throw new EscrowUnusableError(
			`the escrow's grace period is ${grace} s, less than the ${MIN_CLOSE_GRACE_SECONDS} s a payee needs; use another escrow`,
		);
	}
	return { chainId, closeGraceSeconds: Number(grace), permit2: lower(permit2), domainSeparator };
}

/** The token is no ERC-3009 token, or does not sign with the domain that it states. */
export class TokenUnusableError extends Error {
	override readonly name = "TokenUnusableError";
	readonly code = "TOKEN_UNUSABLE";
}

/**
 * The EIP-712 domain of an ERC-3009 token, read from the token and checked against the separator that it uses.
 *
 * @throws TokenUnusableError
 */
export async function readTokenDomain(client: PublicClient, token: Address, chainId: number): Promise<TokenDomain> {
	const contract = { address: token, abi: erc3009Abi } as const;
	const [name, version, separator] = await Promise.all([
		client.readContract({ ...contract, functionName: "name" }),
		client.readContract({ ...contract, functionName: "version" }),
		client.readContract({ ...contract, functionName: "DOMAIN_SEPARATOR" }),
	]).catch((cause: unknown) => {
		if (!(cause instanceof ContractFunctionExecutionError) || isNodeFault(cause)) throw cause;
		throw new TokenUnusableError(`the token at ${token} is not an ERC-3009 token with name() and version()`, { cause });
	});
	const domain = { name, version, chainId, verifyingContract: token };
	if (toHex(domainSeparator(domain)) === separator) return domain;
	throw new TokenUnusableError(`the token at ${token} does not sign with the usual EIP-712 domain`);
}

/** A holder's balance in base units. */
export function readBalance(client: PublicClient, token: Address, holder: Address): Promise<bigint> {
	return client.readContract({ address: token, abi: erc3009Abi, functionName: "balanceOf", args: [holder] });
}

/** Whether an ERC-3009 authorization was used or cancelled. */
export function readAuthorizationState(
	client: PublicClient,
	token: Address,
	authorizer: Address,
	nonce: Hex,
): Promise<boolean> {
	return client.readContract({
		address: token,
		abi: erc3009Abi,
		functionName: "authorizationState",
		args: [authorizer, nonce],
	});
}

/** The node failed, which says nothing about the contract. */
function isNodeFault(error: BaseError): boolean {
	return (
		error.walk(
			(cause) => cause instanceof HttpRequestError || cause instanceof TimeoutError || cause instanceof RpcError,
		) !== null
	);
}

function lower(address: Address): Address {
	return address.toLowerCase() as Address;
}
