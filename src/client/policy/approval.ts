import type { Address, Hex } from "viem";
import { boundsFor, type TokenAt } from "./currency.ts";
import { PolicyRefusedError } from "./errors.ts";
import type { Policy } from "./schema.ts";

/** What is about to be signed, for who has to say yes. */
export type ApprovalRequest = Readonly<{
	/** A charge; a request that a channel pays, with all that its answer may cost; a channel's deposit; more of it. */
	kind: "charge" | "request" | "open" | "topUp";
	/** Base units. */
	amount: bigint;
	/** The amount with its unit, by `amountText`: `0.05 USDC`. */
	amountText: string;
	chainId: number;
	token: Address;
	/** `name` or `name:port` of who is paid. */
	host: string;
	url: string;
	method: string;
	payee: Address;
	channelId?: Hex;
	/** What the server says that it is for. Not to be believed. */
	description?: string;
}>;

/** Says whether to pay. What takes too long is ended by the request's `AbortSignal`. */
export type Approve = (request: ApprovalRequest) => boolean | Promise<boolean>;

/** Whether an amount is above what may be signed without being asked for. */
export function needsApproval(policy: Policy, { amount, ...at }: TokenAt & Readonly<{ amount: bigint }>): boolean {
	const { approveAbove } = boundsFor(policy, at);
	return approveAbove !== undefined && amount > approveAbove;
}

const DOING: Readonly<Record<ApprovalRequest["kind"], string>> = {
	charge: "a charge of",
	request: "a request for",
	open: "a new channel with a deposit of",
	topUp: "a top-up of",
};

/**
 * The refusal of what nobody approved.
 *
 * @param why - `said no`, `nobody is there to ask`
 */
export function approvalRefused(request: ApprovalRequest, why: string): PolicyRefusedError {
	return new PolicyRefusedError("approval", `${described(request)} needs approval: ${why}`);
}

/** A dry run has come to where something would have been signed. */
export class DryRunError extends PolicyRefusedError {
	/** What would have been signed. */
	readonly request: ApprovalRequest;
	constructor(request: ApprovalRequest) {
		super("dryRun", `a dry run signs nothing; it would have been ${described(request)}`);
		this.request = request;
	}
}

/** @throws DryRunError where the policy is for a dry run */
export function assertNotDryRun({ dryRun }: Policy, request: ApprovalRequest): void {
	if (dryRun) throw new DryRunError(request);
}

function described({ kind, amountText, host, payee, method, url }: ApprovalRequest): string {
	const { origin, pathname } = new URL(url);
	return `${DOING[kind]} ${amountText} to ${payee} at ${host} (${method} ${origin}${pathname})`;
}
