import { type Address, encodeDeployData, getContractAddress, type Hex, size, stringToHex } from "viem";
import { MIN_CLOSE_GRACE_SECONDS, paymentChannelEscrowAbi, paymentChannelEscrowBytecode } from "../src/escrow/index.ts";
import { CANONICAL_PERMIT2 } from "../src/voucher/index.ts";
import { FACTORY_ADDRESS } from "./factory.ts";

export { CANONICAL_PERMIT2 };

/**
 * The salt of every escrow. It never changes: another build or other arguments are another creation code, and so have
 * another address anyway.
 */
export const ESCROW_SALT: Hex = stringToHex("sluice.PaymentChannelEscrow", { size: 32 });

/** The draft's reference grace period in seconds (draft-evm-session-00, Forced Close). */
export const REFERENCE_GRACE_SECONDS = 900;

/** The longest that is taken for meant: 7 days. The contract has no limit. */
const MAX_CLOSE_GRACE_SECONDS = 7 * 86_400;

/** What the escrow's constructor is given. Both are in its code for ever. */
export type EscrowArguments = Readonly<{
	/** Time between a payer's request to close and its withdrawal, in seconds: at least 600, at most 7 days. */
	closeGracePeriodSeconds: number;
	permit2: Address;
}>;

/** What will be where: the same on every chain, whoever deploys it. */
export type DeploymentPlan = EscrowArguments &
	Readonly<{
		/** Where the escrow is, or will be. Lowercase. */
		escrow: Address;
		salt: Hex;
		/** Creation code with its arguments. */
		initCode: Hex;
		/** What the factory is called with: the salt, then the creation code. */
		data: Hex;
	}>;

/** An argument of the constructor is out of its range. */
export class EscrowArgumentsError extends Error {
	override readonly name = "EscrowArgumentsError";
	readonly code = "ESCROW_ARGUMENTS";
}

/**
 * Computes the deployment of this build's escrow. Pure: nothing is read or sent.
 *
 * @param args default: a grace period of 900 s and the canonical Permit2
 * @throws {EscrowArgumentsError}
 * @example
 * ```ts
 * const { escrow } = planDeployment();
 * ```
 */
export function planDeployment(args: Partial<EscrowArguments> = {}): DeploymentPlan {
	const { closeGracePeriodSeconds = REFERENCE_GRACE_SECONDS } = args;
	const permit2 = (args.permit2 ?? CANONICAL_PERMIT2).toLowerCase() as Address;
	if (!Number.isSafeInteger(closeGracePeriodSeconds) || closeGracePeriodSeconds < MIN_CLOSE_GRACE_SECONDS) {
		throw new EscrowArgumentsError(
			`a grace period of ${closeGracePeriodSeconds} s is not possible; give whole seconds, at least ${MIN_CLOSE_GRACE_SECONDS} (reference: ${REFERENCE_GRACE_SECONDS})`,
		);
	}
	if (closeGracePeriodSeconds > MAX_CLOSE_GRACE_SECONDS) {
		throw new EscrowArgumentsError(
			`a grace period of ${closeGracePeriodSeconds} s is longer than 7 days (${MAX_CLOSE_GRACE_SECONDS} s), and payers would wait that long for their money; were milliseconds given? Give seconds (reference: ${REFERENCE_GRACE_SECONDS})`,
		);
	}
	if (/^0x0{40}$/.test(permit2)) {
		throw new EscrowArgumentsError(
			"the zero address is never Permit2, and the escrow could never use another; leave --permit2 away for the canonical one",
		);
	}
	if (!/^0x[0-9a-f]{40}$/.test(permit2)) {
		throw new EscrowArgumentsError("the address of Permit2 must be 0x and 40 hex digits");
	}
	const initCode = encodeDeployData({
		abi: paymentChannelEscrowAbi,
		bytecode: paymentChannelEscrowBytecode,
		args: [BigInt(closeGracePeriodSeconds), permit2],
	});
	const escrow = getContractAddress({
		opcode: "CREATE2",
		from: FACTORY_ADDRESS,
		salt: ESCROW_SALT,
		bytecode: initCode,
	});
	return {
		closeGracePeriodSeconds,
		permit2,
		escrow: escrow.toLowerCase() as Address,
		salt: ESCROW_SALT,
		initCode,
		data: `${ESCROW_SALT}${initCode.slice(2)}`,
	};
}

/** The size of a plan's creation code in bytes; chains refuse more than 49,152 (EIP-3860). */
export function initCodeBytes({ initCode }: Pick<DeploymentPlan, "initCode">): number {
	return size(initCode);
}
