import { type Address, type Hex, type PublicClient, zeroAddress } from "viem";
import {
	receiveWithAuthorizationCall,
	type SignedAuthorization,
	transferWithAuthorizationCall,
} from "../escrow/calls.ts";
import { isContractFault } from "../escrow/nodeFault.ts";
import { isContractSignatureValid } from "../escrow/reads.ts";
import type { AuthorizationKind } from "../voucher/index.ts";

/**
 * The payer has code, and what it signed would not be taken: its contract does not accept it, or the token does not ask
 * contracts. Nothing left this machine. The payer pays in another way the next time.
 */
export class UnusableSignatureError extends Error {
	override readonly name = "UnusableSignatureError";
	readonly code = "SIGNATURE_UNUSABLE";
	constructor(payer: Address, why: string) {
		super(`what ${payer} signs can't pay here: ${why}; it can send transactions of its own instead`);
	}
}

/** The form of every signature on the wire: 65 bytes, lowercase. */
export function hasWireForm(signature: Hex): boolean {
	return /^0x[0-9a-f]{130}$/.test(signature);
}

/** @throws UnusableSignatureError unless the payer's contract accepts the signature, as its own node shows it */
export async function assertAccepted(client: PublicClient, payer: Address, digest: Uint8Array, signature: Hex) {
	if (!hasWireForm(signature)) throw new UnusableSignatureError(payer, "its signatures do not have 65 bytes");
	if (await isContractSignatureValid(client, payer, digest, signature)) return;
	throw new UnusableSignatureError(payer, "its contract does not accept the signature");
}

/** @throws UnusableSignatureError unless the token would move the money now, as the payer's own node shows it */
export async function assertExecutable(
	client: PublicClient,
	kind: AuthorizationKind,
	token: Address,
	authorization: SignedAuthorization,
): Promise<void> {
	const isDeposit = kind === "receive";
	const { data } = (isDeposit ? receiveWithAuthorizationCall : transferWithAuthorizationCall)(token, authorization);
	try {
		// A deposit is executed by the escrow itself, a charge by anyone.
		await client.call({ account: isDeposit ? authorization.to : zeroAddress, to: token, data });
	} catch (error) {
		if (!isContractFault(error)) throw error;
		throw new UnusableSignatureError(authorization.from, `the token ${token} would not take it from a contract`);
	}
}
