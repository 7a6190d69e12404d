import { type Address, bytesToHex, encodeFunctionData, type Hex, type PublicClient, toFunctionSelector } from "viem";
import { erc1271Abi } from "./generated/erc1271.ts";
import { isContractFault } from "./nodeFault.ts";

/** What a contract account answers when it accepts: the selector of the question, in a word of its own. */
const ACCEPTED: Hex = `${toFunctionSelector(erc1271Abi[0])}${"0".repeat(56)}`;

/** Enough for accounts of several owners, passkeys among them; a bound on what a stranger makes the node compute. */
const GAS_LIMIT = 1_000_000n;

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
		if (isContractFault(error)) return false;
		throw error;
	}
}
