/** The payer in Node: a wallet that the processes of one agent share. */

export { defaultWalletFolder } from "./folder.ts";
export { type KeyAccount, type KeyAccountOptions, keyAccount } from "./keyAccount.ts";
export { parsePrivateKey, readKeyEnv, readKeyFile, readSecretFile, SignerError } from "./keys.ts";
export { decryptKeystore, encryptKeystore, KeystoreError, keystoreAddress } from "./keystore.ts";
export { findPolicyFile, MAX_POLICY_FILE_BYTES, readPolicyFile, watchPolicyFile } from "./policyFile.ts";
export { openWallet, type WalletOptions } from "./wallet.ts";
