import {
	type Address,
	encodeAbiParameters,
	type Hex,
	keccak256,
	type PublicClient,
	stringToHex,
	toFunctionSelector,
} from "viem";
import { hasCode, isNodeFault } from "./rpc.ts";

const DOMAIN_TYPEHASH = keccak256(stringToHex("EIP712Domain(string name,uint256 chainId,address verifyingContract)"));
const DOMAIN_SEPARATOR_CALL: Hex = toFunctionSelector("DOMAIN_SEPARATOR()");

/** There is no Permit2 where the escrow would look for it for ever. */
export class Permit2UnusableError extends Error {
	override readonly name = "Permit2UnusableError";
	readonly code = "PERMIT2_UNUSABLE";
	readonly permit2: Address;
	readonly reason: "missing" | "foreign-code";
	constructor(reason: Permit2UnusableError["reason"], permit2: Address, chainId: number) {
		super(
			reason === "missing"
				? `there is no contract at ${permit2} on chain ${chainId}, so the escrow's Permit2 functions would not work; fix --permit2, or go on with --allow-missing-permit2: they work from when Permit2 is deployed there`
				: `the contract at ${permit2} on chain ${chainId} is not Permit2, and the escrow could never use another; fix --permit2`,
		);
		this.reason = reason;
		this.permit2 = permit2;
	}
}

/**
 * Whether Permit2 is at an address: it states the EIP-712 domain that Permit2 has there.
 *
 * @returns `false` where there is no code
 * @throws {Permit2UnusableError} where another contract is
 * @example
 * ```ts
 * const usable = await hasPermit2(client, CANONICAL_PERMIT2, 8453);
 * ```
 */
export async function hasPermit2(client: PublicClient, permit2: Address, chainId: number): Promise<boolean> {
	if (!(await hasCode(client, permit2))) return false;
	const { data } = await client.call({ to: permit2, data: DOMAIN_SEPARATOR_CALL }).catch((error: unknown) => {
		if (isNodeFault(error)) throw error;
		return { data: undefined };
	});
	if (data === permit2DomainSeparator(permit2, chainId)) return true;
	throw new Permit2UnusableError("foreign-code", permit2, chainId);
}

/**
 * The EIP-712 domain separator of Permit2. Unlike most, its domain has no version.
 *
 * @example
 * ```ts
 * const separator = permit2DomainSeparator(CANONICAL_PERMIT2, 8453);
 * ```
 */
export function permit2DomainSeparator(permit2: Address, chainId: number): Hex {
	const types = [{ type: "bytes32" }, { type: "bytes32" }, { type: "uint256" }, { type: "address" }] as const;
	return keccak256(
		encodeAbiParameters(types, [DOMAIN_TYPEHASH, keccak256(stringToHex("Permit2")), BigInt(chainId), permit2]),
	);
}
