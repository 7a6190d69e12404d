import {
	type Address,
	BaseError,
	bytesToHex,
	encodeFunctionData,
	type Hex,
	type PublicClient,
	toFunctionSelector,
} from "viem";
import { erc1271Abi } from "./generated/erc1271.ts";
import { revertReason } from "./reverts.ts";

/** What a contract account answers when it accepts: the selector of the question, in a word of its own. */
const ACCEPTED: Hex = `${toFunctionSelector(erc1271Abi[0])}${"0".repeat(56)}`;

/** Enough for accounts of several owners, passkeys among them; a bound on what a stranger makes the node compute. */
const GAS_LIMIT = 1_000_000n;

/** How nodes say that code ran and failed in another way than by `revert`. */
const FAILED_RUN =
	/out\s?of\s?gas|gas required exceeds|invalid (?:opcode|jump)|InvalidFEOpcode|InvalidJump|OpcodeNotFound|stack (?:under|over)flow|Stack(?:Under|Over)flow|VM execution error|EVM error|bad instruction|write protection|state ?change ?during ?static ?call/i;

/**
 * Whether the contract account `signer` accepts `signature` over `digest` (ERC-1271), as of the latest block. An account
 * may change its mind with any block: what it accepts now, a transaction may find refused.
 *
 * Source: draft-evm-session-00, "Signature Verification", contract signers.
 *
 * @param digest 32 bytes, such as `voucherDigest` makes.
 * @returns `false` also when there is no code at the address, when it reverts, answers something else or takes more than
 * 1,000,000 gas.
 * @throws viem's errors when the node could not be asked.
 * @example
 * if (await isContractSignatureValid(client, channel.payer, voucherDigest(domain, voucher), signature)) accept(voucher);
 */
export async function isContractSignatureValid(
	client: PublicClient,
	signer: Address,
	digest: Uint8Array,
	signature: Hex,
): Promise<boolean> {
	const data = encodeFunctionData({
		abi: erc1271Abi,
		functionName: "isValidSignature",
		args: [bytesToHex(digest), signature],
	});
	try {
		const answer = await client.call({ to: signer, data, gas: GAS_LIMIT });
		return answer.data?.slice(0, ACCEPTED.length).toLowerCase() === ACCEPTED;
	} catch (error) {
		if (revertReason(error) !== undefined || hasFailed(error)) return false;
		throw error;
	}
}

function hasFailed(error: unknown): boolean {
	return error instanceof BaseError && FAILED_RUN.test(`${error.shortMessage} ${error.details}`);
}
