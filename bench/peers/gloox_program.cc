// gloox's part in the benchmarks: gloox_program ROLE, its options as one line of JSON on stdin.
#include <gloox/component.h>
#include <gloox/connectionlistener.h>
#include <gloox/message.h>
#include <gloox/messagehandler.h>

#include <cstdlib>
#include <iostream>
#include <string>

using namespace gloox;

class Echo : public MessageHandler, ConnectionListener {
 public:
  Echo(const std::string& domain, int port) : component_(XMLNS_COMPONENT_ACCEPT, "127.0.0.1", domain, "secret", port) {
    component_.registerMessageHandler(this);
    component_.registerConnectionListener(this);
  }
  void run() { component_.connect(true); }
  void handleMessage(const Message& message, MessageSession*) override {
    Message reply(Message::Chat, message.from(), message.body());
    reply.setFrom(message.to());
    reply.setID(message.id());
    component_.send(reply);
  }
  void onConnect() override {}
  void onDisconnect(ConnectionError) override {}
  bool onTLSConnect(const CertInfo&) override { return true; }

 private:
  Component component_;
};

// The value of one key of a flat object; the programs are given nothing else.
static std::string value(const std::string& line, const std::string& key) {
  size_t at = line.find("\"" + key + "\":");
  if (at == std::string::npos) return "";
  at = line.find_first_not_of(" \"", at + key.size() + 3);
  return line.substr(at, line.find_first_of(",\"}", at) - at);
}

int main(int, char** argv) {
  std::string line;
  std::getline(std::cin, line);
  if (std::string(argv[1]) != "echo-component") return 2;
  Echo(value(line, "domain"), std::atoi(value(line, "port").c_str())).run();
}
