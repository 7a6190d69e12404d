import type { Hex } from "viem";
import {
	NoFundsError,
	TransactionNotSentError,
	TransactionPendingError,
	TransactionRevertedError,
} from "../../escrow/sender.ts";
import { type ProblemName, problem } from "../../protocol/index.ts";
import { type Refused, refused } from "../admission.ts";
import { ChallengeTakenError, foreignChallengeProblem } from "../proofs.ts";
import { overdrawnProblem } from "../refusals.ts";
import { OverdrawnError } from "../transactions.ts";

/** Seconds after which a client may ask again for a transaction's outcome. */
const PENDING_RETRY_SECONDS = 5;

/** Revert reasons that have a problem of their own (draft-evm-session-00, Error Responses); all others are `transaction-reverted`. */
const PROBLEM_OF_REASON: ReadonlyMap<string, ProblemName> = new Map(
	Object.entries({
		AmountExceedsDeposit: "session/amount-exceeds-deposit",
		ChannelNotFound: "session/channel-not-found",
		ChannelFinalized: "session/channel-finalized",
		InvalidSignature: "session/invalid-signature",
		ERC20InsufficientBalance: "session/insufficient-balance",
		ERC20InsufficientAllowance: "session/insufficient-balance",
		SafeERC20FailedOperation: "session/insufficient-balance",
		// Permit2 says no more than this of a token that did not move; what signs for it was verified before.
		TRANSFER_FROM_FAILED: "session/insufficient-balance",
		InvalidSigner: "session/invalid-signature",
		InvalidContractSignature: "session/invalid-signature",
		ERC3009InvalidSignature: "session/invalid-signature",
	} satisfies Record<string, ProblemName>),
);

/** As older tokens say it, USDC among them. */
const OLD_TOKEN_REASON = /exceeds (?:balance|allowance)/i;

/**
 * The refusal for a transaction of a session that did not go through. The contract's own error never reaches the wire.
 *
 * @throws the error itself when it is not about a transaction's outcome
 */
export function revertedProblem(error: unknown, channelId: Hex): Refused {
	if (error instanceof TransactionRevertedError) {
		const name = problemOf(error.reason);
		return refused(
			problem(name, "The transaction reverted: nothing changed on chain.", { channelId, hash: error.hash }),
		);
	}
	if (error instanceof TransactionPendingError) {
		const detail = "The transaction is not mined yet; send the same request again.";
		return refused(problem("service-unavailable", detail, { channelId, hash: error.hash }), PENDING_RETRY_SECONDS);
	}
	if (error instanceof TransactionNotSentError || error instanceof NoFundsError) {
		return refused(
			problem("service-unavailable", "The transaction could not be sent; nothing changed.", { channelId }),
			PENDING_RETRY_SECONDS,
		);
	}
	if (error instanceof OverdrawnError) return refused(overdrawnProblem("session"), PENDING_RETRY_SECONDS);
	if (error instanceof ChallengeTakenError) return refused(foreignChallengeProblem());
	throw error;
}

function problemOf(reason: string): ProblemName {
	if (OLD_TOKEN_REASON.test(reason)) return "session/insufficient-balance";
	return PROBLEM_OF_REASON.get(reason) ?? "session/transaction-reverted";
}
