// What a new EC2 instance does at its first boot: let the operators in and install Docker. Anyone on the machine
// can read this text, so nothing secret is in it.

/** cloud-init's document; `publicKeys` are OpenSSH lines of those who may log in as root. */
export function userData(publicKeys: readonly string[]): string {
  const document = {
    disable_root: false,
    ssh_pwauth: false,
    ssh_authorized_keys: publicKeys,
    // One host key of one kind: ssh clients differ in the kind they prefer, and the pinned one is ed25519.
    ssh_deletekeys: true,
    ssh_genkeytypes: ["ed25519"],
    package_update: true,
    packages: ["ca-certificates", "curl", "openssl"],
    runcmd: [["sh", "-euc", INSTALL_DOCKER]],
  };
  // JSON is YAML, and needs no quoting rules of its own.
  return `#cloud-config\n${JSON.stringify(document, null, 2)}\n`;
}

/** Docker's own package repository, as https://docs.docker.com/engine/install/ says for Debian and Ubuntu. */
const INSTALL_DOCKER = `. /etc/os-release
install -m 0755 -d /etc/apt/keyrings
curl -fsSL --retry 5 "https://download.docker.com/linux/$ID/gpg" -o /etc/apt/keyrings/docker.asc
chmod a+r /etc/apt/keyrings/docker.asc
echo "deb [arch=$(dpkg --print-architecture) signed-by=/etc/apt/keyrings/docker.asc] \\
https://download.docker.com/linux/$ID $VERSION_CODENAME stable" > /etc/apt/sources.list.d/docker.list
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -qy docker-ce docker-ce-cli containerd.io docker-compose-plugin
systemctl enable --now docker
`;
