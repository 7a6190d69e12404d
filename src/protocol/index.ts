/** The Payment scheme on the wire: challenge, credential, receipt, problem, and the EVM method's session and charge intents. */

export {
	formatAcceptPayment,
	MAX_ACCEPT_PAYMENT_LENGTH,
	type PaymentRange,
	PaymentRangeError,
	parseAcceptPayment,
	preferenceWeight,
	preferred,
} from "./acceptPayment.ts";
export {
	Base64urlError,
	type Base64urlReason,
	decodeBase64url,
	decodeBase64urlText,
	encodeBase64url,
} from "./base64url.ts";
export {
	assertChallengeSecrets,
	type Challenge,
	ChallengeFormatError,
	type ChallengeFormatReason,
	type ChallengeParams,
	type ChallengeSecret,
	challengeId,
	createChallenge,
	decodeRequest,
	isExpired,
	isOurChallenge,
	MIN_SECRET_BYTES,
	nonceOpaque,
	type OpaqueData,
	opaqueData,
	type UnsignedChallenge,
	WeakSecretError,
} from "./challenge.ts";
export {
	CHARGE_CREDENTIAL_TYPES,
	type ChargeAuthorizationPayload,
	type ChargeHashPayload,
	type ChargePayload,
	type ChargePermit2Payload,
	type ChargeRequest,
	type ChargeTransactionPayload,
	chargeAuthorizationSchema,
	chargeHashSchema,
	chargePayloadSchema,
	chargePermit2Schema,
	chargeRequestSchema,
	chargeTransactionSchema,
	encodeChargePayload,
	encodeChargeRequest,
	MAX_SPLITS,
	parseChargePayload,
	parseChargeRequest,
} from "./charge.ts";
export { contentDigest, matchesContentDigest } from "./contentDigest.ts";
export {
	type Credential,
	formatCredential,
	MAX_CREDENTIAL_LENGTH,
	MalformedCredentialError,
	type MalformedCredentialReason,
	parseCredential,
	paymentCredentials,
} from "./credential.ts";
export { type Address, type Hex, InvalidPayloadError, InvalidRequestError, ZERO_ADDRESS } from "./fields.ts";
export {
	type Eip3009Authorization,
	eip3009Schema,
	type Permit2OpenAuthorization,
	type Permit2TopUpAuthorization,
	permit2OpenSchema,
	permit2TopUpSchema,
} from "./funding.ts";
export {
	ACCEPT_PAYMENT,
	AUTHORIZATION,
	CACHE_CONTROL,
	IDEMPOTENCY_KEY,
	PAYMENT_RECEIPT,
	RETRY_AFTER,
	WWW_AUTHENTICATE,
} from "./headers.ts";
export {
	canonicalJson,
	decodeJson,
	encodeJson,
	isJsonObject,
	JsonError,
	type JsonObject,
	type JsonReason,
	toWire,
} from "./json.ts";
export { isLoopback } from "./loopback.ts";
export {
	PROBLEM_BASE_URI,
	PROBLEM_CONTENT_TYPE,
	PROBLEM_NAMES,
	type Problem,
	type ProblemExtensions,
	type ProblemName,
	parseProblem,
	problem,
	problemStatus,
	problemType,
} from "./problem.ts";
export {
	type ChargeReceipt,
	type CoreReceipt,
	chargeReceiptSchema,
	decodeCoreReceipt,
	decodeReceipt,
	encodeReceipt,
	MalformedReceiptError,
	type Receipt,
	receiptFromJson,
	receiptToJson,
	type SessionReceipt,
	sessionReceiptSchema,
} from "./receipt.ts";
export {
	type ClosePayload,
	closePayloadSchema,
	encodeSessionPayload,
	encodeSessionRequest,
	type OpenPayload,
	openPayloadSchema,
	parseSessionPayload,
	parseSessionRequest,
	SESSION_CREDENTIAL_TYPES,
	type SessionPayload,
	type SessionRequest,
	sessionPayloadSchema,
	sessionRequestSchema,
	type TopUpPayload,
	topUpPayloadSchema,
	type VoucherDeposit,
	type VoucherPayload,
	voucherPayloadSchema,
} from "./session.ts";
export {
	formatSocketControl,
	formatSocketMessage,
	parseSocketFrame,
	parseSocketRefusal,
	SOCKET_CLOSE,
	type SocketBeside,
	type SocketControl,
	type SocketEvent,
	type SocketFrame,
	type SocketMessage,
	SocketMessageError,
	type SocketRefusal,
} from "./socket.ts";
export { formatSource, parseSource, type Source } from "./source.ts";
export { formatTimestamp, parseTimestamp } from "./timestamp.ts";
export {
	ChallengeParseError,
	type ChallengeParseReason,
	formatChallenge,
	MAX_CHALLENGE_HEADER_LENGTH,
	type ParsedChallenge,
	parseChallenge,
	parseChallenges,
} from "./wwwAuthenticate.ts";
