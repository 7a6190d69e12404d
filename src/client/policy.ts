/** What a client may sign, and why not. */
export {
	type ApprovalRequest,
	type Approve,
	approvalRefused,
	assertNotDryRun,
	DryRunError,
	needsApproval,
} from "./policy/approval.ts";
export {
	assertAllowed,
	assertSecure,
	assertStaticallyAllowed,
	isAllowed,
	isSecure,
	type Parties,
} from "./policy/check.ts";
export { amountText, type Bounds, boundsFor, currencyOf, rankOfToken, type TokenAt } from "./policy/currency.ts";
export { additionalDepositFor, depositFor, mayHold } from "./policy/deposit.ts";
export { type LimitReached, PolicyError, PolicyRefusedError, type PolicyRule } from "./policy/errors.ts";
export { type LimitStatus, limitsStatus } from "./policy/limits.ts";
export { type Currency, type Limits, type PaymentPolicy, type Policy, parsePolicy } from "./policy/schema.ts";
