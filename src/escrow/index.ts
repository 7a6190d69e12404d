/** The escrow contract seen from TypeScript: calls, reads, events, and the sender of transactions. */

export {
	approveCall,
	type Call,
	closeCall,
	openCall,
	openWithAuthorizationCall,
	type SignedAuthorization,
	transferWithAuthorizationCall,
} from "./calls.ts";
export {
	type Deployment,
	type Deployments,
	DeploymentsError,
	type DeploymentsInput,
	findDeployment,
	parseDeployments,
} from "./deployments.ts";
export { type ChannelOpenedEvent, findChannelOpened, hasTransfer } from "./events.ts";
export { erc3009Abi } from "./generated/erc3009.ts";
export { paymentChannelEscrowAbi, paymentChannelEscrowBytecode } from "./generated/escrow.ts";
export type { Outbox, OutboxEntry, TransactionPurpose } from "./outbox.ts";
export {
	type EscrowChannel,
	type EscrowFacts,
	EscrowUnusableError,
	MIN_CLOSE_GRACE_SECONDS,
	readAuthorizationState,
	readBalance,
	readChannel,
	readEscrow,
	readTokenDomain,
	TokenUnusableError,
} from "./reads.ts";
export { revertReason } from "./reverts.ts";
export {
	type SenderOptions,
	type SendRequest,
	TransactionNotSentError,
	TransactionPendingError,
	TransactionRevertedError,
	TransactionSender,
} from "./sender.ts";
