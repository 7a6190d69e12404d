import type { Address, Hex, PublicClient } from "viem";
import { ContractFunctionExecutionError, isAddressEqual, toFunctionSelector, zeroAddress } from "viem";
import { erc3009Abi } from "./generated/erc3009.ts";
import { paymentChannelEscrowAbi } from "./generated/escrow.ts";
import { permit2Abi } from "./generated/permit2.ts";
import { isNodeFault } from "./nodeFault.ts";

export { isContractSignatureValid } from "./contractSignature.ts";
export { findTokenDomain, readTokenDomain, type TokenDomainNames, TokenUnusableError } from "./tokenDomain.ts";

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
	/** Which deposits somebody else than the payer can send, by what the payer signs (draft-evm-session-00, Relayed Profile). */
	relayed: Readonly<{ authorization: boolean; permit2: boolean }>;
	/** Whether somebody else than the payee can send settlements and closes that the payee has signed. */
	relayedPayee: boolean;
}>;

/** The address that was given as the escrow is not one that can be used (D17). */
export class EscrowUnusableError extends Error {
	override readonly name = "EscrowUnusableError";
	readonly code = "ESCROW_UNUSABLE";
}

/**
 * Reads a channel, `undefined` when the escrow has no record of it.
 *
 * @param blockNumber As of that block; the latest unless it is given.
 * @example
 * const channel = await readChannel(client, escrow, channelId);
 */
export async function readChannel(
	client: PublicClient,
	escrow: Address,
	channelId: Hex,
	blockNumber?: bigint,
): Promise<EscrowChannel | undefined> {
	const channel = await client.readContract({
		address: escrow,
		abi: paymentChannelEscrowAbi,
		functionName: "getChannel",
		args: [channelId],
		...(blockNumber !== undefined && { blockNumber }),
	});
	return channelOf(channel);
}

/**
 * Channels in one call. What a call without a deployed Multicall3 answers counts as a contract's code to the node, of
 * which there can be 24,576 bytes (EIP-170); a channel takes 416.
 */
const CHANNELS_PER_CALL = 50;

/**
 * Reads channels, fifty in one call. Those that the escrow has no record of are absent from the answer. One row that
 * can't be read fails the whole read: an error is never taken for a channel that does not exist.
 *
 * @param channelIds in lower case, as the keys of the answer are
 * @param blockNumber As of that block; give it where there may be more than fifty, or each fifty are of a block of their own.
 * @throws viem's errors
 * @example
 * const channels = await readChannels(client, escrow, [...step.touched], step.head.number);
 */
export async function readChannels(
	client: PublicClient,
	escrow: Address,
	channelIds: readonly Hex[],
	blockNumber?: bigint,
): Promise<ReadonlyMap<Hex, EscrowChannel>> {
	const found = new Map<Hex, EscrowChannel>();
	for (let start = 0; start < channelIds.length; start += CHANNELS_PER_CALL) {
		const ids = channelIds.slice(start, start + CHANNELS_PER_CALL);
		const rows = await client.multicall({
			contracts: ids.map(
				(channelId) =>
					({ address: escrow, abi: paymentChannelEscrowAbi, functionName: "getChannel", args: [channelId] }) as const,
			),
			allowFailure: false,
			// Not every chain has a Multicall3; and by itself viem would cut the rows into smaller calls.
			deployless: true,
			batchSize: 0,
			...(blockNumber !== undefined && { blockNumber }),
		});
		for (const [index, row] of rows.entries()) {
			const id = ids[index];
			const channel = channelOf(row);
			if (id !== undefined && channel !== undefined) found.set(id, channel);
		}
	}
	return found;
}

/** The escrow's answer as ours; it says of a channel that it has no record of that nobody pays for it. */
function channelOf(
	channel: Readonly<Omit<EscrowChannel, "closeRequestedAt"> & { closeRequestedAt: bigint }>,
): EscrowChannel | undefined {
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
	const selectors = await readProfile(client, escrow);
	return {
		chainId,
		closeGraceSeconds: Number(grace),
		permit2: lower(permit2),
		domainSeparator,
		relayed: {
			authorization: hasFunctions(selectors, ["openWithAuthorization", "topUpWithAuthorization"]),
			permit2: hasFunctions(selectors, ["openWithPermit2", "topUpWithPermit2"]),
		},
		relayedPayee: hasFunctions(selectors, ["settleWithAuthorization", "closeWithAuthorization"]),
	};
}

/**
 * How long after `requestClose` the payer has to wait for `withdraw`, in seconds (draft-evm-session-00, Forced Close).
 *
 * @example
 * const readyAt = channel.closeRequestedAt + (await readCloseGraceSeconds(client, escrow));
 */
export async function readCloseGraceSeconds(client: PublicClient, escrow: Address): Promise<number> {
	const grace = await client.readContract({
		address: escrow,
		abi: paymentChannelEscrowAbi,
		functionName: "CLOSE_GRACE_PERIOD",
	});
	return Number(grace);
}

/** Selectors of the optional functions that the escrow has; none where it does not say (draft: Method Details). */
async function readProfile(client: PublicClient, escrow: Address): Promise<readonly Hex[]> {
	try {
		return await client.readContract({
			address: escrow,
			abi: paymentChannelEscrowAbi,
			functionName: "profileFunctions",
		});
	} catch (error) {
		if (error instanceof ContractFunctionExecutionError && !isNodeFault(error)) return [];
		throw error;
	}
}

/** Whether all of these functions are among the selectors. */
function hasFunctions(selectors: readonly Hex[], names: readonly string[]): boolean {
	return names.every((name) => {
		const item = paymentChannelEscrowAbi.find((one) => one.type === "function" && one.name === name);
		return item?.type === "function" && selectors.includes(toFunctionSelector(item));
	});
}

/** How many digits after the point people read a token's amounts with; `undefined` where the token does not say. */
export async function readDecimals(client: PublicClient, token: Address): Promise<number | undefined> {
	try {
		return await client.readContract({ address: token, abi: erc3009Abi, functionName: "decimals" });
	} catch (error) {
		if (error instanceof ContractFunctionExecutionError && !isNodeFault(error)) return undefined;
		throw error;
	}
}

/** A holder's balance in base units. */
export function readBalance(client: PublicClient, token: Address, holder: Address): Promise<bigint> {
	return client.readContract({ address: token, abi: erc3009Abi, functionName: "balanceOf", args: [holder] });
}

/** What `spender` may still move of `owner`'s tokens, in base units. */
export function readAllowance(client: PublicClient, token: Address, owner: Address, spender: Address): Promise<bigint> {
	return client.readContract({ address: token, abi: erc3009Abi, functionName: "allowance", args: [owner, spender] });
}

/**
 * Whether a Permit2 nonce of `owner` was used or invalidated.
 *
 * @example
 * if (await isPermit2NonceUsed(client, permit2, payer, permit.nonce)) throw new Error("sign with another nonce");
 */
export async function isPermit2NonceUsed(
	client: PublicClient,
	permit2: Address,
	owner: Address,
	nonce: bigint,
): Promise<boolean> {
	const word = await client.readContract({
		address: permit2,
		abi: permit2Abi,
		functionName: "nonceBitmap",
		args: [owner, nonce >> 8n],
	});
	return ((word >> (nonce & 0xffn)) & 1n) === 1n;
}

/**
 * Whether a payee's nonce can't be used (again) for a channel: an authorization of either kind used it up, or the channel
 * is finalized, which uses up all of them (draft-evm-session-00, "Payee-initiated functions").
 *
 * @example
 * if (await isPayeeNonceUsed(client, escrow, channelId, 0n)) nonce = 1n;
 */
export function isPayeeNonceUsed(
	client: PublicClient,
	escrow: Address,
	channelId: Hex,
	nonce: bigint,
): Promise<boolean> {
	return client.readContract({
		address: escrow,
		abi: paymentChannelEscrowAbi,
		functionName: "isNonceUsed",
		args: [channelId, nonce],
	});
}

/** Whether there is code at an address: a contract, or an account that delegates to one (EIP-7702). */
export async function hasCode(client: PublicClient, address: Address): Promise<boolean> {
	const code = await client.getCode({ address });
	return code !== undefined && code !== "0x";
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

function lower(address: Address): Address {
	return address.toLowerCase() as Address;
}
