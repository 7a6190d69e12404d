/** The payer: a `fetch` that pays, within a policy. Runs in Node and in browsers. */

export { TokenUnusableError } from "../escrow/reads.ts";
export { TransactionNotSentError, TransactionPendingError, TransactionRevertedError } from "../escrow/sender.ts";
export type { AccountCall, PayerAccount, SendingAccount } from "./account.ts";
export { DepositExhaustedError, OverchargeError } from "./bookErrors.ts";
export { PayerChannel } from "./channel.ts";
export { PaymentClient } from "./client.ts";
export type { PaymentClientOptions } from "./clientOptions.ts";
export { type ClosedChannel, CloseRefusedError } from "./close.ts";
export { TopUpRefusedError } from "./cover.ts";
export { DeadlineError } from "./deadline.ts";
export { RpcEndedError } from "./jsonrpc/line.ts";
export {
	type PaidRpcClient,
	payRpc,
	RpcCallError,
	type RpcConnection,
	type RpcPaid,
	type RpcRequestMessage,
} from "./jsonrpc/payRpc.ts";
export { type RpcPlace, RpcPlaceError } from "./jsonrpc/places.ts";
export { OpeningNotFoundError } from "./ownOpening.ts";
export { TopUpUntoldError } from "./ownTopUp.ts";
export { UnusableSignatureError } from "./payerSignature.ts";
export { PaymentUntoldError } from "./payments.ts";
export { parsePolicyDocument } from "./policy/document.ts";
export type { PolicyDocument } from "./policy/documentSchema.ts";
export {
	type ApprovalRequest,
	type Approve,
	DryRunError,
	type LimitReached,
	type LimitStatus,
	limitsStatus,
	type PaymentPolicy,
	PolicyError,
	PolicyRefusedError,
	type PolicyRule,
	parsePolicy,
} from "./policy.ts";
export { ContractPayerError, NoGasError, WrongPayerError } from "./recovery/calls.ts";
export type { ChannelEvent } from "./recovery/changes.ts";
export type { EvidenceOptions } from "./recovery/evidence.ts";
export { type Evidence, evidenceSchema } from "./recovery/evidenceSchema.ts";
export { CloseNotRequestedError, GracePeriodError, NodeSilentError, type WaitOptions } from "./recovery/grace.ts";
export { ChannelInUseError, ChannelUnknownError } from "./recovery/held.ts";
export { NodeBehindError, NothingDepositedError } from "./recovery/onChain.ts";
export type { RecoveryProgress } from "./recovery/progress.ts";
export { CloseNotSeenError, type CloseRequest } from "./recovery/requestClose.ts";
export type { StaleServer } from "./recovery/staleServer.ts";
export { EvidenceFormatError, type EvidenceVerdict, verifyEvidence } from "./recovery/verifyEvidence.ts";
export type { WatchEvent, WatchOptions } from "./recovery/watch.ts";
export type { Withdrawal } from "./recovery/withdraw.ts";
export type { RetryOptions } from "./retry.ts";
export type { SessionKeyUse } from "./sessionKeys.ts";
export type { TokenNames } from "./sign.ts";
export { PayerSocket, type SocketOptions, SocketRefusedError, SocketUnavailableError } from "./socket.ts";
export { SocketClosedError } from "./socketWire.ts";
export { ChannelStateError, type PayerChannelState } from "./state.ts";
export { SignedLoweredError } from "./store/holds.ts";
export { LevelPayerStore, type LevelPayerStoreOptions } from "./store/levelStore.ts";
export { MemoryPayerStore } from "./store/memoryStore.ts";
export {
	type ChannelRecord,
	type ChannelStatus,
	type Counter,
	type CounterRefusal,
	type DamagedChannel,
	type HeldChannel,
	HolderLostError,
	type ListedChannel,
	type ListOptions,
	MAX_CLOSED_CHANNELS,
	MAX_PAYMENTS,
	MAX_RECEIPTS,
	PausedError,
	type PayerStore,
	PayerStoreError,
	type PaymentRecord,
	type ReceiptRecord,
	type RecoveryTransaction,
	type StoreWrite,
} from "./store/store.ts";
export {
	type StreamBound,
	StreamBrokenError,
	StreamLimitError,
	StreamRefusedError,
	StreamStoppedError,
	StreamVoucherRefusedError,
} from "./stream/errors.ts";
export type { StreamEvent, StreamOptions } from "./stream/options.ts";
