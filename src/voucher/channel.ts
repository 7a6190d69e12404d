import { type Address, bytesToHex, type Hex } from "viem";
import { chainIdValue, encodeWords, UINT128_MAX } from "./bytes.ts";
import { keccak256 } from "./keccak.ts";

export { UINT128_MAX };

/** No address: an `authorizedSigner` of this value means that the payer itself signs. */
export const ZERO_ADDRESS: Address = "0x0000000000000000000000000000000000000000";

/**
 * What a channel's identity is made of. Addresses are lowercase inside Sluice; other cases hash to the same id.
 *
 * Source: draft-evm-session-00, "Channel State".
 */
export interface ChannelParameters {
	/** Who deposits; of a relayed open, the authorization's `from`. */
	readonly payer: Address;
	/** Who may settle and close. */
	readonly payee: Address;
	/** The ERC-20 token in escrow. */
	readonly token: Address;
	/** The client's random 32 bytes. */
	readonly salt: Hex;
	/** As the client gave it: {@link ZERO_ADDRESS} where it named none, which is another channel than the payer's own address. */
	readonly authorizedSigner: Address;
	/** The escrow contract. */
	readonly escrow: Address;
	/** The chain the escrow is on. */
	readonly chainId: number;
}

/**
 * The `channelId` that the escrow's own `computeChannelId` gives for the same parameters.
 *
 * Source: draft-evm-session-00, "Channel State".
 *
 * @throws {FieldFormatError} for a malformed address, salt or chain id.
 * @example
 * ```ts
 * const channelId = computeChannelId({
 * 	payer: "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
 * 	payee: "0x2000000000000000000000000000000000000002",
 * 	token: "0x3000000000000000000000000000000000000003",
 * 	salt: "0x0000000000000000000000000000000000000000000000000000000000000001",
 * 	authorizedSigner: ZERO_ADDRESS,
 * 	escrow: "0x1000000000000000000000000000000000000001",
 * 	chainId: 31337,
 * });
 * ```
 */
export function computeChannelId(parameters: ChannelParameters): Hex {
	const { payer, payee, token, salt, authorizedSigner, escrow, chainId } = parameters;
	return bytesToHex(
		keccak256(
			encodeWords([
				{ type: "address", field: "payer", value: payer },
				{ type: "address", field: "payee", value: payee },
				{ type: "address", field: "token", value: token },
				{ type: "bytes32", field: "salt", value: salt },
				{ type: "address", field: "authorizedSigner", value: authorizedSigner },
				{ type: "address", field: "escrow", value: escrow },
				{ type: "uint256", field: "chainId", value: chainIdValue(chainId) },
			]),
		),
	);
}

/**
 * Whose signature a channel's vouchers carry: `authorizedSigner`, or the payer where that is the zero address.
 *
 * Source: draft-evm-session-00, "Signature Verification", step 2.
 *
 * @example
 * ```ts
 * const signer = voucherSigner({ payer: channel.payer, authorizedSigner: channel.authorizedSigner });
 * ```
 */
export function voucherSigner(channel: Pick<ChannelParameters, "payer" | "authorizedSigner">): Address {
	return sameAddress(channel.authorizedSigner, ZERO_ADDRESS) ? channel.payer : channel.authorizedSigner;
}

/**
 * Whether two well-formed addresses are the same 20 bytes, whatever the case of their digits.
 *
 * Source: draft-evm-session-00, "Hexadecimal Values".
 *
 * @example
 * ```ts
 * sameAddress("0x742d35Cc6634C0532925a3b844Bc9e7595f8fE00", "0x742d35cc6634c0532925a3b844bc9e7595f8fe00"); // true
 * ```
 */
export function sameAddress(a: Address, b: Address): boolean {
	return a === b || a.toLowerCase() === b.toLowerCase();
}
