/** The escrow contract seen from TypeScript: calls, reads, events, and the sender of transactions. */

export {
	approveCall,
	type Call,
	openCall,
	openWithAuthorizationCall,
	openWithPermit2Call,
	permitTransferCall,
	requestCloseCall,
	type SignedAuthorization,
	type SignedDeposit,
	type TransferDetails,
	topUpCall,
	topUpWithAuthorizationCall,
	topUpWithPermit2Call,
	transferCall,
	transferWithAuthorizationCall,
	withdrawCall,
} from "./calls.ts";
export { type AwaitReceiptOptions, awaitReceipt, findReceipt } from "./confirmations.ts";
export { isContractSignatureValid } from "./contractSignature.ts";
export {
	type Deployment,
	type Deployments,
	DeploymentsError,
	type DeploymentsInput,
	findDeployment,
	parseDeployments,
} from "./deployments.ts";
export {
	decodeEscrowLogs,
	type EscrowEvent,
	EscrowLogsError,
	findEscrowEvents,
	readEscrowEvents,
} from "./escrowEvents.ts";
export {
	type ChannelOpenedEvent,
	findChannelOpened,
	findToppedUp,
	findTransfers,
	hasTransfer,
	type ToppedUpEvent,
	type TransferEvent,
} from "./events.ts";
export { erc1271Abi } from "./generated/erc1271.ts";
export { erc3009Abi } from "./generated/erc3009.ts";
export { paymentChannelEscrowAbi, paymentChannelEscrowBytecode } from "./generated/escrow.ts";
export { permit2Abi } from "./generated/permit2.ts";
export type { Bid, Fees, MinedIn, Outbox, OutboxEntry, TransactionPurpose } from "./outbox.ts";
export {
	BatchSignatureError,
	closeCall,
	closeManyCall,
	closeWithAuthorizationCall,
	type SettlementRow,
	type SignedPayeeAuthorization,
	settleCall,
	settleManyCall,
	settleWithAuthorizationCall,
} from "./payeeCalls.ts";
export {
	type EscrowChannel,
	type EscrowFacts,
	EscrowUnusableError,
	hasCode,
	isPayeeNonceUsed,
	isPermit2NonceUsed,
	MIN_CLOSE_GRACE_SECONDS,
	readAllowance,
	readAuthorizationState,
	readBalance,
	readChannel,
	readChannels,
	readEscrow,
} from "./reads.ts";
export { revertReason } from "./reverts.ts";
export { type ConnectChainOptions, connectChain, disconnectChain, EndpointError, RpcUrlError } from "./rpc.ts";
export {
	type ChainView,
	FeesTooHighError,
	NoFundsError,
	type SenderOptions,
	type SendRequest,
	type Standing,
	TransactionNotSentError,
	TransactionPendingError,
	TransactionRevertedError,
	TransactionSender,
	type WaitOptions,
} from "./sender.ts";
export { type WatchedBlock, WatchFaultError, type WatchStep } from "./stepReader.ts";
export { findTokenDomain, readTokenDomain, type TokenDomainNames, TokenUnusableError } from "./tokenDomain.ts";
export { EscrowWatcher, type WatchCursor, type WatcherOptions } from "./watcher.ts";
